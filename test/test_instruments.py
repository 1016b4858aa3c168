import json

import pytest

from csl_tracker.instruments import ENDOVIS, InstrumentSet


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks": ("a", "a")}, "stands twice"),
        ({"classes": ("x", "x")}, "stands twice"),
        ({"skeleton": (("a", "z"),)}, "unknown landmark 'z'"),
        ({"flip_pairs": (("z", "a"),)}, "unknown landmark 'z'"),
        ({"shaft_axis": ("a", "z")}, "unknown landmark 'z'"),
        ({"landmark_colors": ((0, 0, 0),)}, "1 colours for 2 names"),
        ({"landmarks": (), "classes": ("only",)}, "needs a landmark"),
    ],
)
def test_inconsistent_sets_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstrumentSet(**{"landmarks": ("a", "b"), "classes": ("background", "tool"), **change})  # type: ignore[arg-type]


def test_survives_json() -> None:
    assert InstrumentSet.from_dict(json.loads(json.dumps(ENDOVIS.to_dict()))) == ENDOVIS


def test_flipping_swaps_the_claspers_alone() -> None:
    flipped = [ENDOVIS.landmarks[i] for i in ENDOVIS.flip_permutation()]
    assert flipped == ["center", "shaft", "head", "right_clasper", "left_clasper"]
