import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from csl_tracker.heatmaps import HeatmapSpec, decode, encode, find_peaks

SIZE = (96, 120)


@pytest.mark.parametrize(("sigma", "peak"), [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (3.0, 0.0), (3.0, math.inf)])
def test_impossible_specs_are_refused(sigma: float, peak: float) -> None:
    with pytest.raises(ValueError, match="positive sigma and peak"):
        HeatmapSpec(sigma, peak)


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
    assert (peak.x, peak.y, peak.confidence) == (44.0, 33.0, 0.0)


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


def plain_fit(heatmap: np.ndarray, row: int, column: int, spec: HeatmapSpec) -> tuple[float, float]:
    """The weighted least-squares fit of one peak, with NumPy's own solver."""
    radius = max(2, round(0.75 * spec.sigma))
    rows, columns, values = [], [], []
    for y in range(max(0, row - radius), min(heatmap.shape[0], row + radius + 1)):
        for x in range(max(0, column - radius), min(heatmap.shape[1], column + radius + 1)):
            if heatmap[y, x] > 0.05 * heatmap[row, column]:
                rows.append(y - row)
                columns.append(x - column)
                values.append(float(heatmap[y, x]))
    x, y, weight = np.array(columns, float), np.array(rows, float), np.array(values)
    design = np.stack((np.ones_like(x), x, y, -0.5 * x * x, -x * y, -0.5 * y * y), axis=1)
    s, *_ = np.linalg.lstsq(design * weight[:, None], np.log(weight) * weight, rcond=None)
    shift = np.linalg.solve([[s[3], s[4]], [s[4], s[5]]], s[1:3])
    return column + shift[0], row + shift[1]


@pytest.mark.parametrize("point", [(60.3, 48.8), (0.4, 30.2), (118.7, 94.6)])
def test_all_peaks_at_once_are_each_peak_alone(point: tuple[float, float]) -> None:
    spec = HeatmapSpec(3.5)
    maps = encode(torch.tensor([[point, (33.3, 22.2), (90.9, 70.1)]]), SIZE, spec).numpy()
    maps += np.random.default_rng(0).normal(0, 0.002, maps.shape).astype(np.float32)
    for heatmap, (peak,) in zip(maps, decode(maps, spec, 1), strict=True):
        row, column = divmod(int(heatmap.argmax()), SIZE[1])
        assert (peak.x, peak.y) == pytest.approx(plain_fit(heatmap, row, column, spec), abs=1e-9)


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
