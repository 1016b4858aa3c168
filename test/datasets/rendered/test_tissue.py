import numpy as np
import pytest

from csl_tracker.datasets.rendered.tissue import FAMILIES, TissueSpec, draw_tissue, render_tissue_picture, tissue_mesh

SIZE, SAMPLES = (48, 64), 2


@pytest.fixture(scope="module", params=FAMILIES)
def spec(request: pytest.FixtureRequest) -> TissueSpec:
    return draw_tissue(np.random.default_rng(3), request.param)


def test_every_family_can_be_drawn(spec: TissueSpec) -> None:
    h, w = spec.height.shape
    assert spec.color.shape == (h, w, 3)
    assert spec.roughness.shape == (h, w)
    for values in (spec.color, spec.height, spec.roughness):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert spec.color.min() > 0
    assert spec.color.max() < 0.93
    assert spec.color.std() > 0.001
    assert 0 < spec.roughness.min() <= spec.roughness.max() < 1
    assert 0.04 <= spec.view.distance <= 0.15


def test_the_surface_covers_the_view(spec: TissueSpec) -> None:
    surface = tissue_mesh(spec, grid=(24, 30))
    assert surface.vertices.shape == (24 * 30, 3)
    assert surface.vertices.dtype == np.float32
    assert surface.faces.max() == 24 * 30 - 1
    assert surface.colors.shape == (24 * 30, 3)
    grid = surface.vertices.reshape(24, 30, 3)
    z = grid[..., 2]
    assert z.min() > 0.01, "nothing touches the lens"
    focal = spec.view.focal(640)
    pixels = focal * grid[..., :2] / z[..., None]
    assert pixels[:, 0, 0].max() < -320
    assert pixels[:, -1, 0].min() > 320
    assert pixels[0, :, 1].max() < -256
    assert pixels[-1, :, 1].min() > 256
    a, b, c = (surface.vertices[surface.faces[:, k]] for k in range(3))
    facing = np.einsum("ij,ij->i", np.cross(b - a, c - a), a)
    assert (facing < 0).all(), "every triangle faces the camera"


def test_height_comes_towards_the_camera() -> None:
    spec = draw_tissue(np.random.default_rng(0), "liver")
    flat = TissueSpec(**{**vars(spec), "height": np.zeros_like(spec.height)})
    raised = TissueSpec(**{**vars(spec), "height": np.full_like(spec.height, 2)})
    difference = tissue_mesh(flat, grid=(6, 8)).vertices[:, 2] - tissue_mesh(raised, grid=(6, 8)).vertices[:, 2]
    np.testing.assert_allclose(difference, 0.002, atol=1e-5)


def test_a_seed_gives_one_piece_of_tissue() -> None:
    one, again, other = (draw_tissue(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.family == again.family
    np.testing.assert_array_equal(one.color, again.color)
    np.testing.assert_array_equal(one.height, again.height)
    assert (one.view, one.lights, one.exposure) == (again.view, again.lights, again.exposure)
    assert one.view != other.view


def test_the_materials_are_told() -> None:
    specs = [draw_tissue(np.random.default_rng(seed), "fat") for seed in range(8)]
    assert all("fat" in spec.materials for spec in specs)
    assert len({spec.materials for spec in specs}) > 1, "other organs lie beside it"
    assert draw_tissue(np.random.default_rng(0), "phantom").materials == ("phantom",)


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match="Unknown tissue family 'brain'; known: liver, fat, "):
        draw_tissue(np.random.default_rng(0), "brain")


def test_a_picture_is_deterministic_and_not_constant() -> None:
    pytest.importorskip("mitsuba")
    pictures = [render_tissue_picture(np.random.default_rng(seed), SIZE, SAMPLES, "membrane") for seed in (4, 4, 5)]
    for picture in pictures:
        assert picture.family == "membrane"
        assert picture.image.shape == (*SIZE, 3)
        assert picture.image.dtype == np.uint8
        assert picture.image.std() > 3
    np.testing.assert_array_equal(pictures[0].image, pictures[1].image)
    assert (pictures[0].image != pictures[2].image).mean() > 0.5
