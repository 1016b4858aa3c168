from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np

from csl_tracker.datasets.sample import Sample
from csl_tracker.instruments import InstrumentSet
from csl_tracker.labelling.label_studio import labelling_interface, task

INSTRUMENTS = InstrumentSet(("tip", "shaft"), ("background", "tool & ring"))
SLOTS = ("left", "right")


def sample(label_map: np.ndarray | None) -> Sample:
    landmarks = np.full((2, 2, 2), np.nan)
    landmarks[1, 0] = (19.5, 9.5)
    return Sample(np.zeros((40, 80, 3), np.uint8), label_map, landmarks, np.ones((2, 2), bool), "video", 7, 0)


def test_the_interface_names_every_point_of_every_instrument() -> None:
    view = ElementTree.fromstring(labelling_interface(INSTRUMENTS, SLOTS))
    points = view.findall("KeyPointLabels/Label")
    assert [label.get("value") for label in points] == ["left:tip", "left:shaft", "right:tip", "right:shaft"]
    assert [label.get("model_index") for label in points] == ["0", "1", "2", "3"]
    assert [label.get("value") for label in view.findall("PolygonLabels/Label")] == ["tool & ring"]


def test_the_interface_has_only_what_the_model_has() -> None:
    no_classes = ElementTree.fromstring(labelling_interface(InstrumentSet(("tip",), ("background",)), ("left",)))
    no_landmarks = ElementTree.fromstring(labelling_interface(InstrumentSet((), ("background", "tool")), ("left",)))
    assert [child.tag for child in no_classes] == ["Image", "KeyPointLabels"]
    assert [child.tag for child in no_landmarks] == ["Image", "PolygonLabels"]


def test_a_task_has_percents_from_the_corner() -> None:
    label_map = np.zeros((40, 80), np.uint8)
    label_map[10:20, 20:60] = 1
    made = task(sample(label_map), SLOTS, INSTRUMENTS, "images/7.png", "model")
    assert made["data"]["image"] == "/data/local-files/?d=images/7.png"
    [prediction] = made["predictions"]
    point, area = prediction["result"]
    assert (point["value"]["x"], point["value"]["y"]) == (25, 25)
    assert point["value"]["keypointlabels"] == ["right:tip"]
    assert (point["original_width"], point["original_height"]) == (80, 40)
    assert area["value"]["polygonlabels"] == ["tool & ring"]
    # The outline lies a quarter of a pixel inside, for the rectangle of 25 to 75 % and 25 to 50 %.
    np.testing.assert_allclose(np.ptp(area["value"]["points"], axis=0), [50, 25], atol=1.3)
    assert len({item["id"] for item in prediction["result"]}) == 2


def test_without_masks_there_are_points_alone() -> None:
    [prediction] = task(sample(None), SLOTS, INSTRUMENTS, "images/7.png", "model")["predictions"]
    assert [item["type"] for item in prediction["result"]] == ["keypointlabels"]


def test_names_stay_names() -> None:
    evil = InstrumentSet(('"/><script>x</script>', "a\x1b[2J"), ("background", "b\x00&<"))
    view = ElementTree.fromstring(labelling_interface(evil, ("l",)))
    assert [label.get("value") for label in view.iter("Label")] == ['l:"/><script>x</script>', r"l:a\x1b[2J", r"b\x00&<"]
    made = task(sample(None), SLOTS, InstrumentSet(("a\x1b[2J", "b"), ("background",)), "images/case 7/#1.png", "model")
    assert made["data"]["image"] == "/data/local-files/?d=images/case%207/%231.png"
    assert made["predictions"][0]["result"][0]["value"]["keypointlabels"] == [r"right:a\x1b[2J"]
