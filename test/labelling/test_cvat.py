from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from csl_tracker.instruments import ENDOVIS, InstrumentSet
from csl_tracker.labelling.cvat import project_labels

SHAPE = np.array([[10, 50], [20, 50], [30, 50], [40, 45], [40, 55]], float)


def nodes(svg: str) -> dict[str, tuple[float, float]]:
    circles = ElementTree.fromstring(f"<svg>{svg}</svg>").findall("circle")
    return {circle.attrib["data-label-name"]: (float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in circles}


def test_a_skeleton_with_the_models_points_and_edges() -> None:
    skeleton, *areas = project_labels(ENDOVIS, ("left", "right"))
    assert (skeleton["name"], skeleton["type"]) == ("instrument", "skeleton")
    assert [point["name"] for point in skeleton["sublabels"]] == list(ENDOVIS.landmarks)
    [attribute] = skeleton["attributes"]
    assert (attribute["name"], attribute["values"]) == ("slot", ["left", "right"])
    svg = ElementTree.fromstring(f"<svg>{skeleton['svg']}</svg>")
    ends = [(int(line.attrib["data-node-from"]), int(line.attrib["data-node-to"])) for line in svg.findall("line")]
    assert ends == [(1, 2), (2, 3), (3, 4), (3, 5)]
    assert [circle.attrib["data-node-id"] for circle in svg.findall("circle")] == ["1", "2", "3", "4", "5"]
    assert [area["name"] for area in areas] == ["shaft", "manipulator", "ignore"]


def test_the_template_looks_like_the_instruments_that_were_seen() -> None:
    hidden = SHAPE.copy()
    hidden[0] = np.nan
    [skeleton, *_] = project_labels(ENDOVIS, ("left",), [SHAPE, 3 * SHAPE + 7, hidden])
    assert nodes(skeleton["svg"]) == {
        "center": (15, 50),
        "shaft": (pytest.approx(38.33), 50),
        "head": (pytest.approx(61.67), 50),
        "left_clasper": (85, 15),
        "right_clasper": (85, 85),
    }


def test_without_a_whole_instrument_the_points_lie_on_a_circle() -> None:
    [skeleton, *_] = project_labels(ENDOVIS, ("left",), [np.full((5, 2), np.nan)])
    places = np.array(list(nodes(skeleton["svg"]).values()))
    np.testing.assert_allclose(np.linalg.norm(places - 50, axis=1), 35, atol=0.01)
    assert len({tuple(place) for place in places}) == 5


def test_only_what_the_model_has() -> None:
    assert [label["type"] for label in project_labels(InstrumentSet(("tip",), ("background",)), ("left",))] == ["skeleton"]
    assert [label["name"] for label in project_labels(InstrumentSet((), ("background", "tool")), ("left",))] == [
        "tool",
        "ignore",
    ]


def test_names_stay_names() -> None:
    names = ('"><script>x</script>', "a\x1b[2J")
    [skeleton, *_] = project_labels(InstrumentSet(names, ("background",)), ("left",))
    assert list(nodes(skeleton["svg"])) == ['"><script>x</script>', r"a\x1b[2J"]
    assert [point["name"] for point in skeleton["sublabels"]] == list(nodes(skeleton["svg"]))
