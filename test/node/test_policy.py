"""The SROS2 policy against what the running nodes really do in the graph: no right too few, and none too many."""

import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters

from csl_tracker.bags.frame_writer import BagOptions, RecordedFrame, write_frames
from csl_tracker.camera import CameraModel
from csl_tracker.messages import topics
from csl_tracker.messages.poses import GroundTruth
from csl_tracker.node import watcher
from csl_tracker.node.processes import NodeProcess

pytestmark = pytest.mark.ros

POLICY = Path(__file__).parents[2] / "config" / "sros2_policy.xml"
ROOT = ElementTree.parse(POLICY).getroot()
PROFILES = {profile.get("node"): profile for profile in ROOT.iter("profile")}

RIGHTS = {"topics": ("subscribe", "publish"), "services": ("reply", "request")}


def resolve(profile: ElementTree.Element, name: str) -> str:
    """A name as sros2 reads it: absolute, private, or relative to the namespace."""
    space = (profile.get("ns") or "/").rstrip("/")
    if name.startswith("/"):
        return name
    return f"{space}/{profile.get('node')}{name[1:]}" if name.startswith("~") else f"{space}/{name}"


def granted(node: str) -> dict[str, set[str]]:
    """What the policy lets a node do: ``subscribe``, ``publish``, ``reply`` and ``request`` to the names."""
    profile = PROFILES[node]
    rights: dict[str, set[str]] = {right: set() for pair in RIGHTS.values() for right in pair}
    for kind, names in RIGHTS.items():
        for group in profile.findall(kind):
            for right in names:
                if group.get(right) == "ALLOW":
                    rights[right] |= {resolve(profile, str(entry.text)) for entry in group}
    return rights


def used(node: str, peer) -> dict[str, set[str]]:
    """What a running node has in the graph."""
    look = {
        "subscribe": peer.node.get_subscriber_names_and_types_by_node,
        "publish": peer.node.get_publisher_names_and_types_by_node,
        "reply": peer.node.get_service_names_and_types_by_node,
        "request": peer.node.get_client_names_and_types_by_node,
    }
    return {right: {name for name, _ in names(node, "/")} for right, names in look.items()}


def watch_graph(node: str, peer, running, enough: dict[str, set[str]]) -> dict[str, set[str]]:
    """What the node uses, looked at until it uses all that is expected of it and for a while longer."""
    seen: dict[str, set[str]] = {}
    end = time.monotonic() + 60
    settled = None
    while settled is None or time.monotonic() < settled:
        running()
        assert time.monotonic() < end, {right: names - seen.get(right, set()) for right, names in enough.items()}
        peer.spin_for(0.2)
        if ("/", node) in {(space, name) for name, space in peer.node.get_node_names_and_namespaces()}:
            seen = used(node, peer)
        if settled is None and all(names <= seen.get(right, set()) for right, names in enough.items()):
            settled = time.monotonic() + 1
    return seen


def test_the_policy_has_the_form_of_sros2():
    """As ``policy.xsd`` of sros2 has it; the tests in ``upstream`` hold it to the schema itself."""
    assert (ROOT.tag, ROOT.attrib) == ("policy", {"version": "0.2.0"})
    assert [child.tag for child in ROOT] == ["enclaves"]
    enclaves = [enclave.get("path") for enclave in ROOT.iter("enclave")]
    assert enclaves == [f"/csl_tracker/{name}" for name in ("tracker_node", "replay_node", "stereo_node", "watch")]
    for profile in PROFILES.values():
        assert set(profile.attrib) == {"ns", "node"}
        for group in profile:
            assert set(group.attrib.values()) == {"ALLOW"}
            assert {child.tag for child in group} == {group.tag.removesuffix("s")}
            names = [child.text for child in group]
            assert len(set(names)) == len(names)
            assert not any("*" in str(name) for name in names), "a wildcard is no least right"


def start(peer, environment, tmp_path, module, parameters, remappings):
    log = tmp_path / f"{module}.log"
    process = NodeProcess(module, parameters, remappings, environment, log)

    def running():
        assert process.poll() is None, process.output()

    return process, running


# What the tracker uses in one configuration or the other, never in both, or only beside an installed neighbour.
COMPRESSED = "/camera/image_raw/compressed"
OPTIONAL = {"/tracker_node/detections", "/tracker_node/annotations"}


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_the_trackers_rights(peer, ros_environment, tiny_weights, tmp_path, transport):
    given = {"weights": str(tiny_weights), "device": "cpu", "engine": "torch", "image_transport": transport, "warm_up_width": 0}
    given["use_sim_time"] = True
    expected = granted("tracker_node")
    expected["publish"] -= OPTIONAL
    expected["subscribe"] -= {topics.IMAGE if transport == "compressed" else COMPRESSED}
    remappings = {"image": topics.IMAGE, "camera_info": "/camera/camera_info"}
    process, running = start(peer, ros_environment, tmp_path, "tracker_node", given, remappings)
    with process:
        seen = watch_graph("tracker_node", peer, running, expected)
    seen["publish"] -= OPTIONAL
    assert seen == expected


@pytest.mark.parametrize("stamps", ["now", "original"])
def test_the_replays_rights(peer, ros_environment, tmp_path, stamps):
    bag = tmp_path / "frames.mcap"
    truth = GroundTruth(("left",), ("center",), np.zeros((1, 1, 2)), np.ones((1, 1), bool), (12, 16))
    camera = CameraModel(16, 12, np.eye(3), np.zeros(0), "", np.eye(3), np.eye(3, 4))
    frame = RecordedFrame(np.zeros((12, 16, 3), np.uint8), 10**9, np.zeros((12, 16), np.uint8), truth)
    write_frames(bag, [frame], options=BagOptions(camera=camera))
    given = {"bag": str(bag), "output": str(tmp_path / "poses.mcap"), "record_segmentation": True, "wait_s": 100.0}
    given |= {"stamps": stamps, "clock": stamps == "original", "use_sim_time": True}
    expected = granted("replay_node")
    # Of a bag of compressed images, and what the one way of stamping needs and the other does not.
    expected["publish"] -= {COMPRESSED, "/clock" if stamps == "now" else topics.SOURCE_TIME}
    process, running = start(peer, ros_environment, tmp_path, "replay_node", given, {})
    with process:
        seen = watch_graph("replay_node", peer, running, expected)
    assert seen == expected


def test_the_stereo_nodes_rights(peer, ros_environment, tmp_path):
    remappings = {f"{side}/poses": f"/{side}/tracker_node/poses" for side in ("left", "right")}
    remappings |= {f"{side}/camera_info": f"/stereo_source/{side}/camera_info" for side in ("left", "right")}
    expected = granted("stereo_node")
    process, running = start(
        peer, ros_environment, tmp_path, "stereo_node", {"discovery_time": 0.0, "use_sim_time": True}, remappings
    )
    with process:
        seen = watch_graph("stereo_node", peer, running, expected)
    assert seen == expected


def test_the_watchs_rights(peer):
    expected = granted(watcher.NAME)
    with watcher.Watcher("tracker_node") as watching:
        seen = watch_graph(watcher.NAME, peer, lambda: watching.spin(0.01), expected)
    assert seen == expected


PATHS = {
    "tracker_node": ["weights"],
    "replay_node": ["bag", "output"],
    "stereo_node": ["hand_eye"],
}
"""Parameters that name a file."""


@pytest.mark.parametrize("module", PATHS)
def test_nobody_on_the_network_can_point_a_running_node_at_another_file(peer, ros_environment, tiny_weights, tmp_path, module):
    bag = tmp_path / "frames.mcap"
    write_frames(bag, [RecordedFrame(np.zeros((12, 16, 3), np.uint8), 10**9, None, None)])
    given = {
        "tracker_node": {"weights": str(tiny_weights), "device": "cpu", "engine": "torch", "warm_up_width": 0},
        "replay_node": {"bag": str(bag), "output": str(tmp_path / "poses.mcap"), "wait_s": 100.0},
        "stereo_node": {"discovery_time": 0.0},
    }[module]
    client = peer.node.create_client(SetParameters, f"/{module}/set_parameters")
    process, running = start(peer, ros_environment, tmp_path, module, given, {})
    with process:

        def ready():
            running()
            return client.service_is_ready()

        peer.wait_for(ready, 60.0, "no service")
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(tmp_path / "elsewhere"))
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value) for name in PATHS[module]])
        future = client.call_async(request)
        peer.wait_for(future.done, 60.0, "no answer")
        assert [(result.successful, bool(result.reason)) for result in future.result().results] == [(False, True)] * len(
            PATHS[module]
        )
        running()
