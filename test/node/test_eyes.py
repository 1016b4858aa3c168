"""The configurations of RViz and Foxglove against what the running nodes really publish."""

import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rosidl_parser.definition import BasicType

from csl_tracker.messages import topics
from csl_tracker.node.optional_outputs import ANNOTATIONS
from csl_tracker.node.processes import NodeProcess
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.ros

CONFIG = Path(__file__).parents[2] / "config"
RVIZ = yaml.safe_load((CONFIG / "tracker.rviz").read_text(encoding="utf-8"))
FOXGLOVE = json.loads((CONFIG / "foxglove_layout.json").read_text(encoding="utf-8"))

IMAGE = "sensor_msgs/msg/Image"
MARKERS = "visualization_msgs/msg/MarkerArray"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
DISPLAYS = {"rviz_default_plugins/Image": IMAGE, "rviz_default_plugins/MarkerArray": MARKERS}
MESSAGES = {topics.POSES_TYPE: InstrumentPoseArray, DIAGNOSTICS: DiagnosticArray}


@dataclass(frozen=True)
class Wanted:
    """A topic that a program of eyes subscribes."""

    topic: str
    type: str
    qos: QoSProfile


def rviz_topics() -> list[Wanted]:
    wanted = []
    for display in RVIZ["Visualization Manager"]["Displays"]:
        if "Topic" not in display:
            continue
        topic = display["Topic"]
        assert topic["History Policy"] == "Keep Last"
        qos = QoSProfile(
            depth=topic["Depth"],
            reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
            durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
            liveliness=LivelinessPolicy.AUTOMATIC,
        )
        wanted.append(Wanted(topic["Value"], DISPLAYS[display["Class"]], qos))
    return wanted


def foxglove_topics() -> list[Wanted]:
    # foxglove_bridge takes the QoS of the publishers; best effort is the least that it asks for.
    qos = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
        liveliness=LivelinessPolicy.AUTOMATIC,
    )
    found = {}
    for panel, config in FOXGLOVE["configById"].items():
        kind = panel.partition("!")[0]
        if kind == "Image":
            found[config["imageMode"]["imageTopic"]] = IMAGE
            found |= dict.fromkeys(config["imageMode"].get("annotations", {}), "foxglove_msgs/msg/ImageAnnotations")
        elif kind.startswith("Diagnostic"):
            found[config["topicToRender"]] = DIAGNOSTICS
        elif kind == "RawMessages":
            found[config["topicPath"]] = topics.POSES_TYPE
        else:
            assert kind == "Plot", panel
            for path in config["paths"]:
                topic = path["value"].partition(".")[0]
                found[topic] = DIAGNOSTICS if topic == "/diagnostics" else topics.POSES_TYPE
    return [Wanted(topic, kind, qos) for topic, kind in found.items()]


@pytest.fixture(scope="module")
def nodes(tiny_weights, ros_environment, tmp_path_factory):
    """Tracker and stereo node, at their defaults."""
    folder = tmp_path_factory.mktemp("log")
    given = {"weights": str(tiny_weights), "device": "cpu", "engine": "torch", "warm_up_width": 0}
    with (
        NodeProcess("tracker_node", given, {}, ros_environment, folder / "tracker.log") as tracker,
        NodeProcess("stereo_node", {"discovery_time": 0.0}, {}, ros_environment, folder / "stereo.log") as stereo,
    ):
        yield tracker, stereo


def names(wanted: Wanted) -> str:
    return wanted.topic


# Not of these two nodes: the camera's, and what needs a package beside.
ELSEWHERE = {topics.IMAGE: IMAGE, ANNOTATIONS.replace("~", "/tracker_node"): "foxglove_msgs/msg/ImageAnnotations"}


@pytest.mark.parametrize(
    "wanted", [*rviz_topics(), *(one for one in foxglove_topics() if one.topic not in ELSEWHERE)], ids=names
)
def test_the_topic_is_published_with_that_type_and_a_qos_that_fits(peer, nodes, wanted):
    def published():
        for node in nodes:
            assert node.poll() is None, node.output()
        return peer.node.get_publishers_info_by_topic(wanted.topic)

    peer.wait_for(published, 60.0, f"nobody publishes {wanted.topic}")
    for publisher in published():
        assert publisher.topic_type == wanted.type
        verdict, reason = qos_check_compatible(publisher.qos_profile, wanted.qos)
        assert verdict == QoSCompatibility.OK, reason


def test_rviz_asks_as_it_does_by_default_and_for_all_its_pictures():
    wanted = rviz_topics()
    assert {one.topic for one in wanted} == {
        "/tracker_node/overlay",
        "/tracker_node/segmentation/color",
        "/stereo_node/markers",
    }
    assert {(one.qos.reliability, one.qos.durability, one.qos.depth) for one in wanted} == {
        (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE, 5)
    }


def test_what_foxglove_takes_from_elsewhere_has_the_right_name():
    found = {one.topic: one.type for one in foxglove_topics()}
    assert {topic: found.get(topic) for topic in ELSEWHERE} == ELSEWHERE


def field_of(kind: type, path: str) -> object:
    """The type of the field that a message path of Foxglove leads to."""
    for step in path.split("."):
        name, _, rest = step.partition("[")
        name = name.partition("{")[0]
        if (kind.__module__.split(".")[0], name) == ("builtin_interfaces", "nsec"):
            name = "nanosec"  # as Foxglove calls it
        types = dict(zip(kind.get_fields_and_field_types(), kind.SLOT_TYPES, strict=True))
        assert name in types, f"{kind.__name__} has no {name}"
        for condition in re.findall(r"\{(\w+)==", step):
            inner = importlib.import_module(".".join(types[name].value_type.namespaces))
            assert condition in getattr(inner, types[name].value_type.name).get_fields_and_field_types()
        field = types[name]
        if rest:
            field = field.value_type
        if hasattr(field, "namespaces"):
            kind = getattr(importlib.import_module(".".join(field.namespaces)), field.name)
        else:
            assert not hasattr(field, "value_type"), f"{path} is an array"
            return field
    raise AssertionError(f"{path} is no single value")


PATHS = [path["value"] for panel in FOXGLOVE["configById"].values() for path in panel.get("paths", [])]


@pytest.mark.parametrize("value", PATHS)
def test_what_is_plotted_is_a_number_in_the_message(value):
    topic, _, path = value.partition(".")
    kind = MESSAGES[next(one.type for one in foxglove_topics() if one.topic == topic)]
    field = field_of(kind, re.sub(r'\{(\w+)==".*?"\}', r"{\1==}", path))
    assert isinstance(field, BasicType) or topic == "/diagnostics", value


@pytest.mark.parametrize("path", ["processing_time.hours", "poses[:].conf", 'poses[:]{slot=="left"}.confidence', "poses"])
def test_a_path_that_leads_nowhere_is_found(path):
    with pytest.raises(AssertionError):
        field_of(InstrumentPoseArray, path)


def panels(layout) -> list[str]:
    if isinstance(layout, str):
        return [layout]
    assert layout["direction"] in ("row", "column")
    return [*panels(layout["first"]), *panels(layout["second"])]


def test_each_panel_of_the_layout_is_configured_and_shown_once():
    assert sorted(panels(FOXGLOVE["layout"])) == sorted(FOXGLOVE["configById"])


def test_a_path_of_a_plot_is_drawn():
    """Foxglove draws nothing for a path without these."""
    for panel in FOXGLOVE["configById"].values():
        for path in panel.get("paths", []):
            assert path["enabled"] is True
            assert path["timestampMethod"] in ("receiveTime", "headerStamp")
