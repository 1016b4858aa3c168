import numpy as np
import pytest

pytest.importorskip("mitsuba", reason="mitsuba is not installed: pip install -r requirements/render.txt")

from csl_tracker.datasets.rendered.finishes import draw_environment, draw_finishes
from csl_tracker.datasets.rendered.mesh_scene import PosedTool, View, render_layers
from csl_tracker.datasets.rendered.renderer import Lights
from csl_tracker.datasets.rendered.scenes import draw_scene
from csl_tracker.datasets.rendered.shapes import lathe
from csl_tracker.datasets.rendered.sprites import ToolShelf, draw_sprite
from csl_tracker.datasets.rendered.tool import CLASPER, SHAFT, Part, Tool
from csl_tracker.datasets.rendered.transforms import rotation_about, transform

VIEW = View((48, 64), 60.0)
ACROSS = transform(rotation_about((0, 1, 0), np.pi / 2), np.array([0.0, 0.0, 0.1]))  # z of the link runs to the right


def bar(label: int, finish: str, begin: float, end: float, radius: float) -> Part:
    return Part("roll", finish, label, lathe(np.array([begin, end]), np.array([radius, radius])))


def tool(*parts: Part) -> Tool:
    return Tool("bar", "bar", parts, {})


def rendered(*tools: tuple[Tool, np.ndarray], samples: int = 2):
    finishes = draw_finishes(np.random.default_rng(1))
    posed = [PosedTool(one, {"roll": pose}, finishes) for one, pose in tools]
    return render_layers(VIEW, posed, Lights(), draw_environment(np.random.default_rng(2)), samples, 3)


def test_labels_and_depth_are_those_at_the_pixel_centres():
    radius = 0.011
    layers = rendered((tool(bar(SHAFT, "shaft", -0.5, 0.0, radius), bar(CLASPER, "metal", 0.0, 0.02, radius)), ACROSS))
    u, v = np.meshgrid(np.arange(64) - 31.5, np.arange(48) - 23.5)
    # The silhouette of a cylinder across the optical axis: rays whose distance from the axis is below the radius.
    inside = np.abs(v / VIEW.focal_px) / np.hypot(1, v / VIEW.focal_px) * 0.1 < radius
    surface = 0.1 / (1 + (v / 60) ** 2) * (1 - np.sqrt(np.clip(1 - (1 + (v / 60) ** 2) * (1 - radius**2 / 0.01), 0, None)))
    middle = np.s_[:, 8:30]  # left of the joint between the bars
    np.testing.assert_array_equal(layers.labels[middle] > 0, inside[middle])
    assert set(np.unique(layers.labels[middle])) == {0, SHAFT}
    x = u / 60 * surface
    right = inside & (x > 0.0015) & (x < 0.0185)
    assert (layers.labels[right] == CLASPER).all()
    np.testing.assert_allclose(layers.depth[middle][inside[middle]], surface[middle][inside[middle]], atol=4e-4)
    np.testing.assert_array_equal(layers.instances > 0, layers.labels > 0)


def test_the_nearer_tool_hides_the_farther_one():
    one = tool(bar(SHAFT, "shaft", -0.5, 0.5, 0.01))
    near = transform(rotation_about((1, 0, 0), np.pi / 2), np.array([0.0, 0.0, 0.07]))
    layers = rendered((one, ACROSS), (one, near))
    assert layers.instances[24, 32] == 2
    assert layers.instances[24, 5] == 1
    assert layers.depth[24, 32] == pytest.approx(0.06, abs=1e-3)


def test_alpha_is_the_coverage_and_color_is_premultiplied():
    layers = rendered((tool(bar(SHAFT, "shaft", -0.5, 0.0, 0.01)), ACROSS), samples=16)
    assert layers.alpha[24, 10] == 1
    assert layers.alpha[2, 10] == 0
    assert (layers.color[layers.alpha == 0] == 0).all()
    assert 0 < layers.alpha[:, 10].min() + layers.alpha[:, 10].max() <= 1


def test_points_project_to_pixel_centres():
    found = VIEW.project(np.array([[0.0, 0.0, 0.1], [0.05, -0.025, 0.1], [0.0, 0.0, -0.1], [0.0, 0.0, 0.001]]))
    np.testing.assert_allclose(found[:2], [[31.5, 23.5], [61.5, 8.5]])
    assert np.isnan(found[2:]).all()


def test_a_sprite_is_the_same_for_the_same_seed_and_its_tips_lie_on_it():
    first, second = (draw_sprite(np.random.default_rng((4, 5)), ToolShelf(None), 120, 2) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.depth, second.depth)
    assert first.rgba.shape == (*first.labels.shape, 4)
    assert (first.rgba[first.labels > 0][:, 3] > 0).mean() > 0.95
    rows, columns = np.nonzero(first.labels >= CLASPER)
    tips = np.array([(first.tool.links[link] @ [*point, 1.0])[:3] for link, point in first.tool.tips])
    in_view = [tip for tip in first.view.project(tips) if (tip >= 0).all() and (tip < 120).all()]
    assert len(in_view) == 2
    for x, y in in_view - np.array(first.corner):
        assert np.hypot(rows - y, columns - x).min() < 3


def test_a_scene_has_tissue_everywhere_and_a_state_for_each_tool():
    scene = draw_scene(np.random.default_rng((4, 1)), ToolShelf(None), (48, 60), 1)
    assert scene.image.shape == (48, 60, 3)
    assert scene.instances.max() <= len(scene.tools)
    assert (scene.depth > 0).mean() > 0.99
    assert scene.image.std() > 3
