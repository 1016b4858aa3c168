import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from csl_tracker.heatmaps import HeatmapSpec, Peak, decode, encode, find_peaks, fitted_peak

SIZE = (96, 120)


@pytest.mark.parametrize(("sigma", "peak"), [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (3.0, 0.0), (3.0, math.inf)])
def test_impossible_specs_are_refused(sigma: float, peak: float) -> None:
    with pytest.raises(ValueError, match="positive sigma and peak"):
        HeatmapSpec(sigma, peak)


@pytest.mark.parametrize(
    ("sigma", "peak"),
    [
        (math.nextafter(0.1, 0.0), 1.0),
        (math.nextafter(200.0, 300.0), 1.0),
        (3.0, math.nextafter(1e-6, 0.0)),
        (3.0, math.nextafter(1e6, 2e6)),
    ],
)
def test_specs_beyond_the_limits_are_refused(sigma: float, peak: float) -> None:
    with pytest.raises(ValueError, match=f"sigma from 0.1 to 200 px .* not sigma={sigma}, peak={peak}"):
        HeatmapSpec(sigma, peak)


@pytest.mark.parametrize(("sigma", "peak"), [(0.1, 1e-6), (200.0, 1e6)])
def test_specs_at_the_limits_survive_json(sigma: float, peak: float) -> None:
    spec = HeatmapSpec(sigma, peak)
    assert spec.to_dict() == {"sigma": sigma, "peak": peak}
    assert HeatmapSpec.from_dict({"sigma": str(sigma), "peak": str(peak), "more": 1}) == spec


@pytest.mark.parametrize(
    ("sigma", "reach", "fit_radius", "least_curvature"),
    [(0.1, 1, 2, 0.1), (0.5, 1, 2, 4e-3), (1.8, 4, 2, 1e-3 / 3.24), (3.5, 7, 3, 1e-3 / 12.25), (200.0, 400, 150, 2.5e-8)],
)
def test_windows_of_a_spec(sigma: float, reach: int, fit_radius: int, least_curvature: float) -> None:
    spec = HeatmapSpec(sigma)
    assert (spec.reach, spec.fit_radius) == (reach, fit_radius)
    assert spec.least_curvature == pytest.approx(least_curvature)


@pytest.mark.parametrize("sigma", [5.0, 7.0])
def test_paper_target_is_equation_2(sigma: float) -> None:
    point = (40.3, 33.8)
    spec = HeatmapSpec.paper(sigma)
    drawn = encode(torch.tensor([[point]], dtype=torch.float64), SIZE, spec)[0].numpy()
    expected = np.empty(SIZE)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            squared = (column - point[0]) ** 2 + (row - point[1]) ** 2
            expected[row, column] = math.exp(-squared / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)
    # SciPy's normalised density differs by its factor only.
    grid = np.dstack(np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])))
    density = multivariate_normal(point, sigma**2 * np.eye(2)).pdf(grid)
    np.testing.assert_allclose(drawn / drawn.max(), density / density.max(), rtol=1e-9)


@pytest.mark.parametrize("sigma", [1.5, 3.5, 7.0])
@pytest.mark.parametrize("point", [(60.0, 48.0), (60.5, 48.5), (12.25, 80.8), (0.2, 0.4), (119.3, 95.2), (119.0, 0.0)])
def test_decoding_undoes_encoding(sigma: float, point: tuple[float, float]) -> None:
    spec = HeatmapSpec(sigma, 1.0)
    heatmap = encode(torch.tensor([[point]]), SIZE, spec)[0].numpy()
    (peak,) = find_peaks(heatmap, spec, 1)
    assert math.hypot(peak.x - point[0], peak.y - point[1]) < 0.02
    assert peak.confidence == pytest.approx(1.0, abs=0.02)
    assert np.sqrt(np.diag(peak.covariance)).max() < 0.3


def test_a_wider_peak_has_the_covariance_of_its_spread() -> None:
    """A network that is unsure draws the expected Gaussian: the spec's, convolved with where the landmark may be."""
    spread = np.array([[9.0, 3.0], [3.0, 4.0]])
    spec = HeatmapSpec(3.0, 1.0)
    grid = np.dstack(np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])))
    total = spread + spec.sigma**2 * np.eye(2)
    heatmap = multivariate_normal((50.0, 40.0), total).pdf(grid) * 2 * math.pi * spec.sigma**2
    (peak,) = find_peaks(heatmap.astype(np.float32), spec, 1)
    np.testing.assert_allclose(peak.covariance, spread, atol=0.1)
    assert peak.confidence == pytest.approx(spec.sigma**2 / math.sqrt(np.linalg.det(total)), rel=0.01)


def test_two_instruments_give_two_peaks_highest_first() -> None:
    spec = HeatmapSpec(3.5)
    points = torch.tensor([[[30.0, 40.0]], [[80.5, 20.25]]])
    heatmap = encode(points, SIZE, spec)[0].numpy() * np.where(np.arange(SIZE[1]) > 55, 1.0, 0.6).astype(np.float32)
    peaks = find_peaks(heatmap, spec, 5)
    assert [(round(p.x, 1), round(p.y, 1)) for p in peaks[:2]] == [(80.5, 20.2), (30.0, 40.0)]
    assert [round(p.confidence, 1) for p in peaks[:2]] == [1.0, 0.6]
    assert len(find_peaks(heatmap, spec, 1)) == 1


@pytest.mark.parametrize(
    "heatmap",
    [
        np.zeros(SIZE, np.float32),
        np.full(SIZE, -1.0, np.float32),
        np.full(SIZE, np.nan, np.float32),
        np.zeros((0, 4), np.float32),
    ],
)
def test_nothing_is_found_where_nothing_is(heatmap: np.ndarray) -> None:
    assert find_peaks(heatmap, HeatmapSpec(3.0), 2) == []


def test_nothing_is_found_where_nothing_is_though_denormal_numbers_are_flushed() -> None:
    """As in a process that has trained."""
    torch.set_flush_denormal(True)
    try:
        assert find_peaks(np.zeros(SIZE, np.float32), HeatmapSpec(3.0), 2) == []
    finally:
        torch.set_flush_denormal(False)


def test_a_map_without_anything_positive_still_has_a_highest_point() -> None:
    heatmap = np.full(SIZE, -0.5, np.float32)
    heatmap[33, 44] = -0.1
    (peak,) = find_peaks(heatmap, HeatmapSpec(3.0), 2)
    assert flat(peak) == (44.0, 33.0, 9.0, 0.0, 0.0, 9.0, 0.0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_plateau_is_one_peak(count: int) -> None:
    heatmap = np.zeros(SIZE, np.float32)
    heatmap[40:43, 50:53] = 0.8
    peaks = find_peaks(heatmap, HeatmapSpec(3.0), count)
    assert len(peaks) == 1
    assert math.hypot(peaks[0].x - 51, peaks[0].y - 41) < 1.5


def test_a_nan_does_not_hide_a_peak() -> None:
    spec = HeatmapSpec(3.0)
    heatmap = encode(torch.tensor([[[50.0, 40.0]]]), SIZE, spec)[0].numpy()
    heatmap[10, 10] = np.nan
    heatmap[11, 90] = np.inf
    (peak,) = find_peaks(heatmap, spec, 1)
    assert math.hypot(peak.x - 50, peak.y - 40) < 0.05


def test_noise_moves_a_peak_by_little() -> None:
    spec = HeatmapSpec(3.5)
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(50):
        point = rng.uniform(20, 70, 2)
        heatmap = encode(torch.from_numpy(point[None, None].astype(np.float32)), SIZE, spec)[0].numpy()
        (peak,) = find_peaks(heatmap + rng.normal(0, 0.03, SIZE).astype(np.float32), spec, 1)
        errors.append(math.hypot(peak.x - point[0], peak.y - point[1]))
    assert np.median(errors) < 0.35


def test_absent_landmarks_draw_nothing() -> None:
    points = torch.tensor([[[math.nan, math.nan], [10.0, 10.0]], [[math.nan, math.nan], [30.0, 30.0]]])
    maps = encode(points, SIZE, HeatmapSpec(3.0))
    assert maps.shape == (2, *SIZE)
    assert float(maps[0].max()) == 0.0
    assert float(maps[1, 10, 10]) == pytest.approx(1.0)
    assert encode(torch.zeros((0, 3, 2)), SIZE, HeatmapSpec(3.0)).shape == (3, *SIZE)
    assert [len(p) for p in decode(maps.numpy(), HeatmapSpec(3.0), 2)] == [0, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_maps_have_the_type_of_the_points(dtype: torch.dtype) -> None:
    maps = encode(torch.ones((4, 2, 3, 2), dtype=dtype), SIZE, HeatmapSpec(3.0))
    assert (maps.shape, maps.dtype) == ((4, 3, *SIZE), dtype)


def plain_peak(heatmap: np.ndarray, row: int, column: int, spec: HeatmapSpec) -> tuple[float, ...]:
    """x, y, covariance (flat) and confidence of one peak, with loops over pixels and NumPy's own solvers."""
    top, radius = float(heatmap[row, column]), spec.fit_radius
    rows, columns, values = [], [], []
    for y in range(max(0, row - radius), min(heatmap.shape[0], row + radius + 1)):
        for x in range(max(0, column - radius), min(heatmap.shape[1], column + radius + 1)):
            if float(heatmap[y, x]) / top > 0.05:
                rows.append(y - row)
                columns.append(x - column)
                values.append(float(heatmap[y, x]) / top)
    x, y, weight = np.array(columns, float), np.array(rows, float), np.array(values)
    design = np.stack((np.ones_like(x), x, y, -0.5 * x * x, -x * y, -0.5 * y * y), axis=1)
    s, _, rank, _ = np.linalg.lstsq(design * weight[:, None], np.log(weight) * weight, rcond=None)
    precision = np.array([[s[3], s[4]], [s[4], s[5]]])
    shift, covariance = np.zeros(2), np.zeros((2, 2))
    if rank == 6 and np.linalg.eigvalsh(precision)[0] > spec.least_curvature:
        wanted = np.linalg.solve(precision, s[1:3])
        if np.abs(wanted).max() <= 1.0:
            shift = wanted
            top *= math.exp(min(s[0] + s[1:3] @ shift - shift @ precision @ shift / 2, 0.5))
            covariance = np.linalg.inv(precision) - spec.sigma**2 * np.eye(2)
    values, axes = np.linalg.eigh(covariance)
    covariance = axes @ np.diag(np.maximum(values, 0.25**2)) @ axes.T
    return column + shift[0], row + shift[1], *covariance.ravel(), float(np.clip(top / spec.peak, 0.0, 1.0))


def flat(peak: Peak) -> tuple[float, ...]:
    return peak.x, peak.y, *peak.covariance.ravel().tolist(), peak.confidence


@pytest.mark.parametrize("sigma", [1.0, 3.5, 5.0])
@pytest.mark.parametrize("together", [1, 7])
def test_peaks_anywhere_are_each_that_of_a_plain_fit(sigma: float, together: int) -> None:
    """At each distance from the borders, among values near the limit of the fit, some negative; alone and in one call."""
    spec, rng = HeatmapSpec(sigma, 1.3), np.random.default_rng(0)
    size = (2 * spec.fit_radius + 3, 2 * spec.fit_radius + 4)
    points = [(x, y) for y in range(size[0]) for x in range(size[1])]
    maps = encode(torch.tensor([points], dtype=torch.float32) + 0.3 * torch.tensor([1.0, -1.0]), size, spec).numpy()
    maps += rng.uniform(-0.1, 0.25, maps.shape).astype(np.float32)
    found = [peaks for i in range(0, len(maps), together) for peaks in decode(maps[i : i + together], spec, 1)]
    for heatmap, (peak,) in zip(maps, found, strict=True):
        row, column = divmod(int(heatmap.argmax()), size[1])
        assert flat(peak) == pytest.approx(plain_peak(heatmap, row, column, spec), rel=1e-7, abs=1e-7)


def pixels(offsets: list[tuple[int, int]], sigma: float, size: tuple[int, int] = (81, 83)) -> np.ndarray:
    """The pixels at these offsets (row, column) from (20, 21), of a Gaussian whose maximum is between pixels; others are 0."""
    heatmap = np.zeros(size, np.float32)
    for row, column in offsets:
        heatmap[20 + row, 21 + column] = math.exp(-((row - 0.2) ** 2 + (column + 0.3) ** 2) / (2 * sigma**2))
    return heatmap


SIX = [(0, 0), (0, 1), (1, 0), (-1, 0), (0, -1), (1, 1)]
ROWS = [(row, column) for row in (0, 1) for column in range(-2, 3)]


@pytest.mark.parametrize(
    ("sigma", "offsets"),
    [
        (2.0, [(0, 0)]),
        (2.0, SIX[:5]),
        (2.0, ROWS[:5]),  # a line
        (2.0, ROWS),  # two lines, all pixels of both
        (2.0, [(column, row) for row, column in ROWS]),
        (2.0, ROWS[1:]),
        (12.0, [(row, column) for row in (0, 1) for column in range(-9, 10)]),
        (12.0, [(row, column) for row in range(-9, 10) for column in (0, -1)]),
        (40.0, [(row, column) for row in (0, 1) for column in range(-20, 31)]),
        (12.0, [(0, 0), (0, 8), (6, 0), (6, 8), (3, -1), (3, 9), (-2, 4), (8, 4), (-1, 1), (7, 7)]),  # a circle
    ],
)
def test_pixels_on_one_conic_leave_the_maximum_where_it_is(sigma: float, offsets: list[tuple[int, int]]) -> None:
    """Such pixels do not determine a quadratic; another landmark in the same call is fitted all the same."""
    spec = HeatmapSpec(sigma)
    heatmap = pixels(offsets, sigma)
    whole = encode(torch.tensor([[[20.4, 19.7]]]), heatmap.shape, spec)[0].numpy()
    (peak,), (other,) = decode(np.stack([heatmap, whole]), spec, 1)
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    assert flat(peak) == pytest.approx((column, row, 0.0625, 0.0, 0.0, 0.0625, heatmap.max()))
    assert (other.x, other.y) == pytest.approx((20.4, 19.7), abs=1e-4)


@pytest.mark.parametrize(
    ("sigma", "offsets"),
    [
        (2.0, SIX),
        (2.0, [*SIX, (-1, 1)]),
        (2.0, [*ROWS, (-1, 0)]),
        (12.0, [*((row, column) for row in (0, 1) for column in range(-9, 10)), (-1, 0)]),  # long and thin
    ],
)
def test_six_pixels_off_a_conic_are_enough(sigma: float, offsets: list[tuple[int, int]]) -> None:
    (peak,) = find_peaks(pixels(offsets, sigma), HeatmapSpec(sigma), 1)
    assert (peak.x, peak.y, peak.confidence) == pytest.approx((20.7, 20.2, 1.0), abs=1e-4)


def test_a_pixel_at_a_twentieth_of_the_height_is_not_fitted() -> None:
    spec = HeatmapSpec(0.6, 20.0)
    heatmap = 20 * pixels(SIX, 0.6)
    heatmap[20, 21], heatmap[21, 22] = 20.0, 1.0
    assert find_peaks(heatmap, spec, 1)[0].x == 21.0, "five pixels are left"
    heatmap[21, 22] = 1.001
    assert find_peaks(heatmap, spec, 1)[0].x == pytest.approx(20.7, abs=0.1)


LOW = HeatmapSpec(2.0, 5.0)
"""Its least curvature is 2.5e-4."""


@pytest.mark.parametrize(
    "quadratic",
    [
        None,
        (0.1, 0.0, 0.0, -1.0, 0.0, -1.0),  # a valley
        (0.1, 0.0, 0.0, 1.0, 2.0, 1.0),  # a saddle
        (0.1, 0.0, 0.0, 1.0, 0.9998, 1.0),  # a ridge, lower than its curvature across
        (0.1, 0.0, 0.0, 1.0, 0.0, 2.4e-4),
        (0.1, 0.0, 0.0, 2.4e-4, 0.0, 1.0),
        (0.1, 0.0, 0.0, 2.5e-4, 0.0, 2.5e-4),  # at the limit
        (0.1, 1.01, 0.0, 1.0, 0.0, 1.0),  # too far
        (0.1, 0.0, -1.01, 1.0, 0.0, 1.0),
    ],
)
@pytest.mark.parametrize(("height", "confidence"), [(-1.0, 0.0), (2.0, 0.4), (5.0, 1.0), (9.0, 1.0)])
def test_a_fit_that_is_no_peak_nearby_is_not_used(quadratic, height: float, confidence: float) -> None:  # type: ignore[no-untyped-def]
    assert flat(fitted_peak(7, 30, height, quadratic, LOW)) == (30.0, 7.0, 0.0625, 0.0, 0.0, 0.0625, confidence)


@pytest.mark.parametrize(
    ("quadratic", "x", "y", "rise"),
    [
        ((0.0, 1.0, -1.0, 1.0, 0.0, 1.0), 31.0, 6.0, 0.5),  # rises by 1, but only 0.5 is believed
        ((0.7, 0.0, 0.0, 1.0, 0.0, 1.0), 30.0, 7.0, 0.5),
        ((-0.1, 0.2, 0.1, 1.0, 0.0, 0.5), 30.2, 7.2, -0.1 + 0.02 + 0.01),
        ((0.0, 0.4, 0.1, 1.0, 0.8, 1.0), 30.0 + 0.32 / 0.36, 7.0 - 0.22 / 0.36, (0.4 * 0.32 - 0.1 * 0.22) / 0.72),
        ((0.0, 0.0, 0.0, 2.6e-4, 0.0, 2.6e-4), 30.0, 7.0, 0.0),  # just more than the least curvature
        ((0.0, 0.0, 0.0, 1.0, 0.9997, 1.0), 30.0, 7.0, 0.0),
    ],
)
@pytest.mark.parametrize("height", [-1.0, 0.2, 2.0, 9.0])
def test_a_fitted_peak_by_hand(quadratic: tuple[float, ...], x: float, y: float, rise: float, height: float) -> None:
    peak = fitted_peak(7, 30, height, quadratic, LOW)
    expected = min(max(height * math.exp(rise) / 5.0, 0.0), 1.0)
    assert (peak.x, peak.y, peak.confidence) == pytest.approx((x, y, expected))


def test_covariances_of_fits_against_numpy() -> None:
    """The inverse of the precision minus the trained covariance, whose eigenvalues are at least those of a quarter px."""
    rng, kinds = np.random.default_rng(1), set()
    for _ in range(300):
        angle, sigmas = rng.uniform(0, math.pi), rng.uniform(1.5, 3.0, 2)
        axes = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        (xx, xy), (_, yy) = axes @ np.diag(sigmas**-2.0) @ axes.T
        peak = fitted_peak(0, 0, 1.0, (0.0, 0.0, 0.0, xx, xy, yy), LOW)
        own = np.maximum(sigmas**2 - 4.0, 0.0625)
        np.testing.assert_allclose(peak.covariance, axes @ np.diag(own) @ axes.T, atol=1e-9)
        kinds.add(int((own > 0.0625).sum()))
    assert kinds == {0, 1, 2}


def points_of(heatmap: np.ndarray, spec: HeatmapSpec, count: int = 9) -> list[tuple[int, int]]:
    return [(round(peak.x), round(peak.y)) for peak in find_peaks(heatmap, spec, count)]


@pytest.mark.parametrize(
    ("places", "heights", "found"),
    [
        ([10, 16], [1.0, 0.8], [10]),  # the reach is 7 px
        ([10, 17], [1.0, 0.8], [10]),
        ([10, 17], [0.8, 1.0], [17]),
        ([10, 17], [1.0, 1.0], [10]),
        ([10, 18], [1.0, 0.8], [10, 18]),
        ([10, 18], [0.8, 1.0], [18, 10]),
        ([10, 18], [1.0, 1.0], [10, 18]),
        ([10, 17, 24], [1.0, 0.8, 0.6], [10]),  # the third is too near to the second, although that is not a peak
        ([10, 17, 24], [0.6, 0.8, 1.0], [24]),
        ([0, 39], [0.5, 1.0], [39, 0]),  # borders
    ],
)
def test_peaks_are_more_than_two_sigmas_apart(places: list[int], heights: list[float], found: list[int]) -> None:
    heatmap = np.zeros((40, 40), np.float32)
    heatmap[20, places] = heights
    assert points_of(heatmap, HeatmapSpec(3.5)) == [(place, 20) for place in found]
    assert points_of(np.ascontiguousarray(heatmap.T), HeatmapSpec(3.5)) == [(20, place) for place in found]


def test_equal_peaks_come_by_row_and_column() -> None:
    heights = np.random.default_rng(0).choice(np.float32([0.5, 0.6, 0.7]), (10, 10))
    heatmap = np.zeros((90, 90), np.float32)
    heatmap[4::9, 4::9] = heights
    places = sorted((-heights[i, j], i, j) for i in range(10) for j in range(10))
    assert points_of(heatmap, HeatmapSpec(1.0), 100) == [(9 * j + 4, 9 * i + 4) for _, i, j in places]


def test_infinite_values_are_no_peaks() -> None:
    spec = HeatmapSpec(3.0)
    heatmap = 0.5 * encode(torch.tensor([[[50.0, 40.0]]]), SIZE, spec)[0].numpy()
    heatmap[10, 10], heatmap[11, 90], heatmap[70, 12] = np.nan, np.inf, -np.inf
    assert points_of(heatmap, spec) == [(50, 40)]


def test_decoding_needs_no_memory_of_the_maps_size() -> None:
    spec = HeatmapSpec(3.5)
    maps = encode(torch.rand(2, 5, 2) * 90, (256, 320), spec).numpy()
    decode(maps, spec, 2)
    tracemalloc.start()
    try:
        decode(maps, spec, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * maps[0].nbytes < maps.nbytes
