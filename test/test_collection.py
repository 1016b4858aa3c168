"""The tests are collected where a plug-in imports each file before pytest does, as launch_testing's does in a sourced ROS 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

EAGER = """
from _pytest.pathlib import import_path


def pytest_pycollect_makemodule(module_path, parent):
    import_path(module_path, root=None)
"""


def test_a_file_that_skips_itself_does_not_end_the_collection(tmp_path: Path) -> None:
    (tmp_path / "eager.py").write_text(EAGER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])}
    folder = tmp_path / "test"
    folder.mkdir()
    (folder / "conftest.py").write_text((ROOT / "test" / "conftest.py").read_text())
    (folder / "test_skips_itself.py").write_text("import pytest\n\npytest.importorskip('no_such_package')\n")
    (folder / "test_zest.py").write_text("def test_of_the_next_file():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), "-p", "eager", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
