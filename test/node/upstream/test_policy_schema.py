"""The SROS2 policy under the schema of sros2, and under its translation into permissions of DDS Security."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lxml", reason="lxml cannot be imported: install ros-jazzy-sros2 beside a sourced ROS 2")
pytest.importorskip("sros2", reason="sros2 cannot be imported: install ros-jazzy-sros2 beside a sourced ROS 2")

from lxml import etree
from sros2.policy import get_transport_schema, get_transport_template, load_policy

pytestmark = pytest.mark.upstream

POLICY = Path(__file__).resolve().parents[3] / "config" / "sros2_policy.xml"
NODES = ("tracker_node", "replay_node", "stereo_node", "watch")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('version="0.2.0"', 'version="1"'),
        ('publish="ALLOW"', 'publish="MAYBE"'),
        ("<topic>~/poses</topic>", "<service>~/poses</service>"),
        (' node="tracker_node"', ""),
    ],
)
def test_the_schema_refuses_what_is_wrong(tmp_path: Path, right: str, wrong: str) -> None:
    text = POLICY.read_text(encoding="utf-8").replace(right, wrong, 1)
    assert wrong in text
    (tmp_path / "policy.xml").write_text(text, encoding="utf-8")
    with pytest.raises(RuntimeError):
        load_policy(tmp_path / "policy.xml")


def test_the_policy_fits_the_schema() -> None:
    assert len(load_policy(POLICY).findall(".//profile")) == len(NODES)


@pytest.mark.parametrize("name", NODES)
def test_sros2_translates_it_into_permissions(name: str) -> None:
    """What ``ros2 security create_permission`` does, short of the signature."""
    policy = load_policy(POLICY)
    enclaves = policy.find("enclaves")
    for enclave in list(enclaves):
        if enclave.get("path") != f"/csl_tracker/{name}":
            enclaves.remove(enclave)
    permissions = etree.XSLT(etree.parse(str(get_transport_template("dds", "permissions.xsl"))))(policy)
    etree.XMLSchema(etree.parse(str(get_transport_schema("dds", "permissions.xsd")))).assertValid(permissions)
    topics = {
        right: {str(topic.text) for topic in permissions.iterfind(f".//{right}/topics/topic")}
        for right in ("publish", "subscribe")
    }
    profile = next(enclaves.iter("profile"))
    node = profile.get("node")
    for right in ("publish", "subscribe"):
        for entry in profile.iterfind(f"topics[@{right}]/topic"):
            assert "rt" + str(entry.text).replace("~", f"/{node}") in topics[right]
    for entry in profile.iterfind("services[@reply]/service"):
        name = str(entry.text).replace("~", f"/{node}")
        assert f"rq{name}Request" in topics["subscribe"]
        assert f"rr{name}Reply" in topics["publish"]
    assert not any("*" in topic for names in topics.values() for topic in names)


def test_the_commands_of_the_how_to_make_a_key_for_each_node(ros2: Any, tmp_path: Path) -> None:
    pytest.importorskip(
        "cryptography", reason="cryptography cannot be imported: install ros-jazzy-sros2 beside a sourced ROS 2"
    )
    pytest.importorskip("ros2cli", reason="ros2cli cannot be imported: source a ROS 2")
    pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")
    keys = tmp_path / "keys"
    ros2("security", "generate_artifacts", "-k", str(keys), "-p", str(POLICY))
    assert set(ros2("security", "list_enclaves", str(keys)).split()) == {f"/csl_tracker/{name}" for name in NODES}
    for name in NODES:
        folder = keys / "enclaves" / "csl_tracker" / name
        assert {"cert.pem", "key.pem", "permissions.p7s", "governance.p7s"} <= {path.name for path in folder.iterdir()}
        permissions = (folder / "permissions.xml").read_text(encoding="utf-8")
        assert "*" not in permissions, "the rights of sros2's default, which are all"
