"""The nodes where there is no network but the loopback, and no disk to write to but one folder.

Linux takes both away from a process in namespaces of its own, from compiled libraries too; it needs ``unshare`` and ``ip``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from csl_tracker.bags.frame_writer import RecordedFrame, write_frames
from csl_tracker.bags.reader import BagReader

pytestmark = pytest.mark.ros

# Everything becomes read-only but the kernel's own file systems, a fresh shared memory for DDS, and the folder $1.
CONFINE = """
set -e
ip link set lo up
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t tmpfs tmpfs /dev/shm
for place in $(awk '{print $5}' /proc/self/mountinfo); do
    case "$place" in /proc*|/sys*|/dev*|"$1") ;; *) mount -o remount,bind,ro "$place" ;; esac
done
cd "$1"
shift
exec "$@"
"""

PRELUDE = """
import os, pathlib, socket, sys, time
for place in ("/tmp/confined", os.path.join(os.path.dirname(os.getcwd()), "confined")):
    try:
        open(place, "w").close()
    except OSError:
        continue
    sys.exit(f"{place} could be written")
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    assert error.errno is not None, "a time-out: there is a network"
else:
    sys.exit("there is a network")
from csl_tracker.node.processes import NodeProcess, private_environment
environment = private_environment(42)
os.environ.update(environment)
"""

TRACKER = """
import rclpy
from sensor_msgs.msg import Image
from csl_tracker_msgs.msg import InstrumentPoseArray
given = {"weights": sys.argv[1], "device": "cpu"}
image = Image(height=48, width=64, encoding="rgb8", step=192, data=bytes(48 * 192))
received = []
rclpy.init()
peer = rclpy.create_node("peer")
publisher = peer.create_publisher(Image, "/image", 1)
for topic in ("segmentation", "segmentation/color", "overlay"):
    peer.create_subscription(Image, f"/tracker_node/{topic}", lambda message: None, 1)
peer.create_subscription(InstrumentPoseArray, "/tracker_node/poses", received.append, 10)
with NodeProcess("tracker_node", given, environment=environment, log=pathlib.Path("log")) as process:
    end = time.monotonic() + 120
    while len(received) < 3:
        assert process.poll() is None and time.monotonic() < end, process.output()
        publisher.publish(image)
        rclpy.spin_once(peer, timeout_sec=0.2)
    assert process.stop() == 0
rclpy.shutdown()
"""

STEREO = """
with NodeProcess("stereo_node", {"discovery_time": 0.5}, environment=environment, log=pathlib.Path("log")) as process:
    end = time.monotonic() + 120
    while "ready: " not in process.output():
        assert process.poll() is None and time.monotonic() < end, process.output()
        time.sleep(0.1)
    assert process.stop() == 0
"""

REPLAY = """
import rclpy
from sensor_msgs.msg import Image
from csl_tracker_msgs.msg import InstrumentPoseArray
rclpy.init()
peer = rclpy.create_node("peer")
publisher = peer.create_publisher(InstrumentPoseArray, "/tracker_node/poses", 10)
peer.create_subscription(Image, "/camera/image_raw", lambda m: publisher.publish(InstrumentPoseArray(header=m.header)), 1)
given = {"bag": BAG, "output": sys.argv[1], "wait_s": 100.0}
with NodeProcess("replay_node", given, environment=environment, log=pathlib.Path("log")) as process:
    end = time.monotonic() + 120
    while process.poll() is None:
        assert time.monotonic() < end, process.output()
        rclpy.spin_once(peer, timeout_sec=0.1)
    print(process.output())
    status = process.poll()
rclpy.shutdown()
sys.exit(status)
"""


def namespaces_work() -> bool:
    if not all(map(shutil.which, ("unshare", "ip", "awk", "mount"))):
        return False
    probe = "ip link set lo up && mount --make-rprivate / && mount -t tmpfs tmpfs /dev/shm"
    return subprocess.run(["unshare", "-rnm", "sh", "-c", probe], capture_output=True, check=False).returncode == 0


@pytest.fixture
def confined(tmp_path):
    """A function that runs code in confinement, in the folder ``tmp_path/work``, which it may write to."""
    if not namespaces_work():
        pytest.skip("this machine lets no process have namespaces of its own (unshare -rnm)")
    work = tmp_path / "work"
    work.mkdir()

    def run(code, *arguments):
        environment = {**os.environ, "HOME": str(work / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("ROS_LOG_DIR", None)
        command = [
            "unshare",
            "-rnm",
            "sh",
            "-c",
            CONFINE,
            "confine",
            str(work),
            sys.executable,
            "-c",
            PRELUDE + code,
            *arguments,
        ]
        return work, subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


def written(folder: Path) -> set[str]:
    """What lies in a folder, the logs of ROS aside."""
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {path for path in files if not path.startswith("home/.ros/log/")}


@pytest.mark.parametrize("code", [TRACKER, STEREO], ids=["tracker", "stereo"])
def test_the_node_needs_neither_network_nor_disk(confined, tiny_weights, code):
    work, done = confined(code, str(tiny_weights))
    assert done.returncode == 0, done.stdout + done.stderr
    assert written(work) == {"log"}


def test_the_replay_writes_the_bag_that_it_was_given_and_nothing_else(confined, tmp_path):
    bag = tmp_path / "frames.mcap"
    write_frames(bag, [RecordedFrame(np.full((12, 16, 3), index, np.uint8), 10**9 + index, None, None) for index in range(3)])
    work, done = confined(REPLAY.replace("BAG", repr(str(bag))), "out/poses.mcap")
    assert done.returncode == 0, done.stdout + done.stderr
    assert written(work) == {"log", "out/poses.mcap"}
    with BagReader(work / "out" / "poses.mcap") as recorded:
        assert recorded.count("/tracker_node/poses") >= 3


def test_what_cannot_be_written_is_one_sentence(confined, tmp_path):
    bag = tmp_path / "frames.mcap"
    write_frames(bag, [RecordedFrame(np.zeros((12, 16, 3), np.uint8), 10**9, None, None)])
    work, done = confined(REPLAY.replace("BAG", repr(str(bag))), str(tmp_path / "elsewhere" / "poses.mcap"))
    assert done.returncode == 2
    assert "elsewhere" in done.stdout
    assert "Traceback" not in done.stdout
    assert written(work) == {"log"}
    assert not (tmp_path / "elsewhere").exists()
