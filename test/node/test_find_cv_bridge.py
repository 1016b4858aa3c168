import sys

import pytest

from csl_tracker.node.cv_bridge import find_cv_bridge


def write_bridge(folder, body: str, registered: bool = True) -> None:
    package = folder / "lib" / "cv_bridge"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(body)
    if registered:
        marker = folder / "share" / "ament_index" / "resource_index" / "packages" / "cv_bridge"
        marker.parent.mkdir(parents=True)
        marker.touch()


WORKING = """
import numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)[..., ::-1]
"""


@pytest.mark.ros
@pytest.mark.parametrize(
    ("body", "registered", "taken"),
    [
        (WORKING, True, True),
        (WORKING, False, False),
        ("raise ImportError('libboost_python')", True, False),
        ("import os; os.abort()", True, False),
        ("import time; time.sleep(60)", True, False),
        (WORKING.replace("[..., ::-1]", ""), True, False),
    ],
    ids=["works", "ros1", "does not import", "crashes", "hangs", "wrong colours"],
)
def test_only_a_cv_bridge_that_works_is_taken(tmp_path, monkeypatch, body, registered, taken):
    pytest.importorskip("sensor_msgs")
    write_bridge(tmp_path, body, registered)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    find_cv_bridge.cache_clear()
    try:
        assert (find_cv_bridge(5.0) is not None) == taken
    finally:
        find_cv_bridge.cache_clear()
        sys.modules.pop("cv_bridge", None)
