import pytest

from csl_tracker.datasets.rendered import renderer


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


@pytest.mark.parametrize("there", [True, False])
def test_the_users_library_is_taken_if_it_exists(tmp_path, monkeypatch, there):
    path = tmp_path / "libLLVM-15.so.1"
    if there:
        path.touch()
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", str(path))
    assert renderer.find_llvm() == (str(path) if there else None)
