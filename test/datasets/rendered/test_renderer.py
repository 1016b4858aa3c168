import sys

import numpy as np
import pytest

from csl_tracker.datasets.rendered import renderer
from csl_tracker.errors import EngineError


def test_lights_are_beside_the_lens() -> None:
    counts = set()
    for seed in range(20):
        lights = renderer.draw_lights(np.random.default_rng(seed))
        scene = renderer.endoscope_lights(lights)
        counts.add(len(scene))
        for light in scene.values():
            x, y, z = light["center"]
            assert np.hypot(x, y) == pytest.approx(lights.offset)
            assert np.hypot(x, y) > light["radius"], "the lens is outside the light"
            assert z < 0
    assert counts == {1, 2}


def test_the_users_llvm_is_preferred(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path_factory.mktemp("llvm") / "libLLVM.so"
    library.touch()
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", str(library))
    assert renderer.find_llvm() == str(library)
    library.unlink()
    assert renderer.find_llvm() is None, "a wrong path is not replaced in silence"


def test_without_mitsuba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer.mitsuba.cache_clear()
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(EngineError, match=r"Rendering needs Mitsuba: pip install 'csl_tracker\[render\]'."):
        renderer.mitsuba()


def test_a_point_is_seen_where_the_pinhole_model_puts_it() -> None:
    pytest.importorskip("mitsuba")
    focal, (h, w) = 80.0, (48, 64)
    point = np.array([0.01, -0.006, 0.08])
    ball = {
        "type": "sphere",
        "center": point.tolist(),
        "radius": 0.002,
    }
    image = renderer.render({"ball": ball}, renderer.camera((h, w), focal, 16, "rgba"), 0)[..., 3]
    rows, columns = np.mgrid[0:h, 0:w]
    x, y = (float((image * plane).sum() / image.sum()) for plane in (columns, rows))
    assert x == pytest.approx(focal * point[0] / point[2] + (w - 1) / 2, abs=0.1)
    assert y == pytest.approx(focal * point[1] / point[2] + (h - 1) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], None),
        (["libLLVM-14.so.1", "libLLVM-15.so.1"], None),
        (["libLLVM-15.so.1", "libLLVM.so.19.1"], "libLLVM.so.19.1"),
        (["libLLVM-9.so.1", "libLLVM-16.so.1", "libLLVM.so.22.1-rust-1.95.0-stable"], "libLLVM.so.22.1-rust-1.95.0-stable"),
        (["libLLVM.so"], None),
    ],
)
def test_the_newest_library_that_works_is_taken(tmp_path, monkeypatch, files, expected):
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.delenv("DRJIT_LIBLLVM_PATH", raising=False)
    monkeypatch.setattr(renderer, "_LLVM_PATHS", (f"{tmp_path}/libLLVM*.so*",))
    found = renderer.find_llvm()
    assert found == (None if expected is None else str(tmp_path / expected))
