import json
from pathlib import Path

import pytest

from csl_tracker.errors import ConfigError
from csl_tracker.instruments import ENDOVIS, InstrumentSet, find_instruments


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
        ({"classes": tuple(f"c{i}" for i in range(256))}, "256 class names, and 255 at most"),
        ({"skeleton": (("a", "a"),)}, "not a pair of two landmark names"),
        ({"skeleton": (("a",),)}, "not a pair of two landmark names"),
        ({"landmark_colors": ((0, 0, 0), (0, 0, 256))}, "no RGB of three whole numbers"),
    ],
)
def test_inconsistent_sets_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstrumentSet(**{"landmarks": ("a", "b"), "classes": ("background", "tool"), **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks": ["a", "b\x1b[2J"]}, r"the landmark name 'b\\x1b\[2J' is no text"),
        ({"landmarks": ["a", ""]}, "the landmark name '' is no text"),
        ({"classes": ["background", 10]}, "the class name '10' is no text"),
        ({"landmarks": ["a", "b" * 101]}, "is no text of 1 to 100 printable characters"),
    ],
)
def test_names_in_files_are_short_printable_texts(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstrumentSet.from_dict({"landmarks": ["a", "b"], "classes": ["background", "tool"], **change})


@pytest.mark.parametrize(
    ("skeleton", "chains"),
    [
        ("ab bc cd", [(0, 1, 2), (1, 2, 3)]),
        ("ab bc ca", []),  # a ring of three: every landmark is a neighbour of the first
        ("ab bc cd da", [(0, 3, 2)]),
        ("ab ba bc cb", [(0, 1, 2)]),
        ("ab bc ca cd", [(0, 2, 3)]),
        ("", []),
    ],
)
def test_chains_end_also_where_the_skeleton_closes_a_ring(skeleton: str, chains: list[tuple[int, int, int]]) -> None:
    pairs = tuple((pair[0], pair[1]) for pair in skeleton.split())
    assert InstrumentSet(("a", "b", "c", "d"), ("background", "tool"), pairs).chains() == chains


def test_survives_json() -> None:
    assert InstrumentSet.from_dict(json.loads(json.dumps(ENDOVIS.to_dict()))) == ENDOVIS


def test_flipping_swaps_the_claspers_alone() -> None:
    flipped = [ENDOVIS.landmarks[i] for i in ENDOVIS.flip_permutation()]
    assert flipped == ["center", "shaft", "head", "right_clasper", "left_clasper"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"The instruments' file .*tool\.yaml cannot be read"),
        ("landmarks: [tip", "is not readable YAML: did not find"),
        ("[tip]", "describes no set of instruments: it has '.' where landmarks, classes"),
        ("landmarks: [tip]\nclass: [a]", "it has 'class' where landmarks, classes"),
        ("classes: [background, tool]", "has no landmarks; list landmarks and classes"),
        ("landmarks: [tip, tip]\nclasses: [background, tool]", "a landmark name stands twice"),
        ("landmarks: [tip]\nclasses: [background, tool]\nskeleton: [[tip, hub]]", "names the unknown landmark 'hub'"),
        ("landmarks: 5\nclasses: [background, tool]", "landmarks in .*tool.yaml is 5; give a list"),
        ("landmarks: tip\nclasses: [background, tool]", "landmarks in .*tool.yaml is 'tip'; give a list"),
        ("landmarks: [true]\nclasses: [background, tool]", r"landmarks\[0\] in .* is true, a truth value; write it in quotes"),
    ],
)
def test_a_file_that_describes_no_instruments_is_named(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "tool.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        find_instruments(str(path))


def test_instruments_by_name_or_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_instruments("endovis") is ENDOVIS
    with pytest.raises(ConfigError, match=r"instruments 'forks' are unknown; choose one of endovis, retinal, or give a \.yaml"):
        find_instruments("forks")
    (tmp_path / "tool.yaml").write_text("landmarks: [hub, tip]\nclasses: [background, tool]\nskeleton: [[hub, tip]]\n")
    monkeypatch.setenv("MY_LAB", str(tmp_path))
    found = find_instruments("${MY_LAB}/tool.yaml")
    assert (found.landmarks, found.skeleton, found.num_classes) == (("hub", "tip"), (("hub", "tip"),), 2)
