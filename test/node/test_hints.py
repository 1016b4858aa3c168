import pytest

from csl_tracker.node.hints import (
    CAMERA,
    IMAGE_ARGUMENT,
    LAUNCHED,
    nearest,
    remap_at_start,
    set_at_start,
    take_images_from,
    unknown,
)
from csl_tracker.node.launching import (
    boolean,
    environment_of,
    existing_file,
    hints_for,
    started_alone,
    typed,
    unknown_arguments,
)
from csl_tracker.node.parameter_table import refusal
from csl_tracker.node.tracker_parameters import PARAMETERS

RUN: dict[str, str] = {}
LAUNCH = {LAUNCHED: "tracker.launch.py"}


def test_advice_is_in_the_words_of_the_start(monkeypatch):
    assert set_at_start("device", "cpu", RUN) == "-p device:=cpu"
    assert set_at_start("device", "cpu", LAUNCH) == "device:=cpu"
    assert remap_at_start("image", "/a/b", RUN) == "-r image:=/a/b"
    assert remap_at_start("image", "/a/b", LAUNCH) == "image:=/a/b"
    assert take_images_from("/a/b", environ=RUN) == "-r image:=/a/b"
    assert take_images_from("/a/b", "raw", LAUNCH) == "image_transport:=raw image:=/a/b"
    assert take_images_from("/a/b", environ={**LAUNCH, IMAGE_ARGUMENT: "left_image"}) == "left_image:=/a/b"
    several = {**LAUNCH, IMAGE_ARGUMENT: "image", CAMERA: "left"}
    assert take_images_from("/left/image_raw", environ=several) == "image:=/{camera}/image_raw"
    nameless = {**LAUNCH, IMAGE_ARGUMENT: ""}
    assert take_images_from("/a/b", "raw", nameless).endswith("tracker.launch.py image_transport:=raw image:=/a/b")
    monkeypatch.delenv(LAUNCHED, raising=False)
    assert "'-p weights:=VALUE'" in str(refusal(PARAMETERS, "weights", "active", "/tracker_node"))
    monkeypatch.setenv(LAUNCHED, "tracker.launch.py")
    assert "'weights:=VALUE'" in str(refusal(PARAMETERS, "weights", "active", "/tracker_node"))


def test_an_included_file_hears_how_the_user_names_things():
    given = hints_for("/share/dvrk_stereo.launch.py", "left_image")
    found = environment_of("/share/tracker.launch.py", given)
    assert (found[LAUNCHED], found[IMAGE_ARGUMENT], found[CAMERA]) == ("dvrk_stereo.launch.py", "left_image", "")
    found = environment_of("/share/tracker.launch.py", {})
    assert (found[LAUNCHED], found[IMAGE_ARGUMENT], found[CAMERA]) == ("tracker.launch.py", "image", "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("hand_eyes", "hand_eye"), ("min_confidense", "min_confidence"), ("weight", "weights"), ("xyz", ""), ("", "")],
)
def test_the_nearest_name(name, expected):
    assert nearest(name, ["hand_eye", "min_confidence", *PARAMETERS]) == expected
    assert unknown([name], ["hand_eye", "min_confidence", *PARAMETERS]).startswith(repr(name))


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "1", "on", "yes", "Y"])
def test_what_ros_takes_for_true(text):
    assert boolean("autostart", text) is True


@pytest.mark.parametrize("text", ["false", "False", "0", "off", "No", "n"])
def test_what_ros_takes_for_false(text):
    assert boolean("autostart", text) is False


@pytest.mark.parametrize("text", ["maybe", "2", "tru", ""])
def test_what_is_neither(text):
    with pytest.raises(RuntimeError, match="neither true nor false"):
        boolean("autostart", text)


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [("3", 2, 3), ("3", 2.0, 3.0), ("1e1", 2.0, 10.0), ("0012", "", "0012"), ("on", False, True)],
)
def test_arguments_have_their_parameters_types(text, default, expected):
    found = typed("name", text, default)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("text", "default"), [("two", 2), ("2.5", 2), ("fast", 2.0), ("perhaps", True)])
def test_another_type_is_named(text, default):
    with pytest.raises(RuntimeError, match=f"^name:={text} is n"):
        typed("name", text, default)


def test_a_file_has_to_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").touch()
    assert existing_file("params_file", "~/mine.yaml") == str(tmp_path / "mine.yaml")
    for text in ("~/other.yaml", str(tmp_path)):
        with pytest.raises(RuntimeError, match="name an existing file"):
            existing_file("params_file", text)


def test_unknown_arguments_are_named_once():
    declared = ["image", "device"]
    assert unknown_arguments({"image": "a", "device": "cpu", "launch-prefix": "gdb", "ros_namespace": "x"}, declared) == []
    (sentence,) = unknown_arguments({"devise": "cpu", "rig": "a"}, declared)
    assert "'devise' (did you mean device?), 'rig'" in sentence
    assert unknown_arguments({"rig": "a", "csl_tracker_arguments": "rig,image"}, declared) == []


@pytest.mark.parametrize(
    ("arguments", "alone"),
    [
        (["ros2", "launch", "csl_tracker", "tracker.launch.py", "device:=cpu"], True),
        (["ros2", "launch", "/ws/launch/tracker.launch.py"], True),
        (["ros2", "launch", "csl_tracker", "multi_camera.launch.py"], False),
        (["ros2", "launch", "mine", "rig.launch.py", "base:=tracker.launch.py"], False),
    ],
)
def test_who_was_asked_for(arguments, alone):
    assert started_alone("/ws/install/share/csl_tracker/launch/tracker.launch.py", arguments) is alone
