"""What is tracked: landmark names, classes, skeleton and drawing colours.

The datasets, network heads, messages and drawings share one description. It is stored in the weights file, so that a model
defines the meaning of its channels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path
from csl_tracker.text import excerpt, printable
from csl_tracker.yaml_files import read_yaml, spelled

Color = tuple[int, int, int]
"""An RGB colour, each channel 0..255."""

MAX_NAMES = 255
"""Maximum number of landmarks and of classes: label maps are uint8, and 255 means no class."""

MAX_NAME_LENGTH = 100

IGNORE_LABEL = 255
"""Label of pixels without a known class; ignored in training and evaluation."""


def _check_names(what: str, names: tuple[str, ...]) -> None:
    if len(names) > MAX_NAMES:
        raise ValueError(f"there are {len(names)} {what} names, and {MAX_NAMES} at most can be told apart")
    if len(set(names)) != len(names):
        raise ValueError(f"a {what} name stands twice in {names}")


def _check_colors(colors: tuple[Color, ...], names: tuple[str, ...]) -> None:
    if colors and len(colors) != len(names):
        raise ValueError(f"{len(colors)} colours for {len(names)} names {names}")
    for color in colors:
        if len(color) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in color):
            raise ValueError(f"the colour {color} is no RGB of three whole numbers from 0 to 255")


@dataclass(frozen=True)
class InstrumentSet:
    """The landmarks and classes of a model.

    Attributes:
        landmarks: Landmark names, in the order of the heatmap channels.
        classes: Class names in the order of the label values; the first is the background.
        skeleton: Pairs of landmark names; the edges for drawing and for grouping peaks into instruments.
        flip_pairs: Pairs of landmark names that swap when the image is mirrored.
        shaft_axis: Two landmark names; the shaft points from the first to the second, towards the tip.
        landmark_colors: One RGB colour per landmark.
        class_colors: One RGB colour per class, the background's included.
    """

    landmarks: tuple[str, ...]
    classes: tuple[str, ...]
    skeleton: tuple[tuple[str, str], ...] = ()
    flip_pairs: tuple[tuple[str, str], ...] = ()
    shaft_axis: tuple[str, str] | None = None
    landmark_colors: tuple[Color, ...] = ()
    class_colors: tuple[Color, ...] = ()

    def __post_init__(self) -> None:
        """Validate names, pairs and colours.

        Raises:
            ValueError: A name is repeated, a pair has an unknown landmark, or the numbers of colours and names differ.
        """
        _check_names("landmark", self.landmarks)
        _check_names("class", self.classes)
        if not self.landmarks and len(self.classes) < 2:
            raise ValueError("an instrument set needs a landmark or a class besides the background")
        pairs = [*self.skeleton, *self.flip_pairs, *((self.shaft_axis,) if self.shaft_axis else ())]
        for pair in pairs:
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ValueError(f"{pair} is not a pair of two landmark names")
            for name in pair:
                if name not in self.landmarks:
                    raise ValueError(f"the pair {pair} names the unknown landmark {name!r}, known are {self.landmarks}")
        _check_colors(self.landmark_colors, self.landmarks)
        _check_colors(self.class_colors, self.classes)

    @property
    def num_landmarks(self) -> int:
        """Number of landmarks, and of heatmap channels."""
        return len(self.landmarks)

    @property
    def num_classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.classes)

    @property
    def anchor(self) -> int:
        """Index of the landmark to which the others of an instrument point: the one with most edges of the skeleton."""
        ends = [name for edge in self.skeleton for name in edge]
        counts = [ends.count(name) for name in self.landmarks]
        return counts.index(max(counts, default=0)) if counts else 0

    def flip_permutation(self) -> list[int]:
        """Landmark order in the mirrored image: entry ``i`` is the landmark that replaces ``i``."""
        order = list(range(self.num_landmarks))
        for a, b in self.flip_pairs:
            i, j = self.landmarks.index(a), self.landmarks.index(b)
            order[i], order[j] = j, i
        return order

    def chains(self) -> list[tuple[int, int, int]]:
        """Index triples of consecutive landmarks along the skeleton, from its first landmark outwards.

        Each landmark is visited once, so the closing edge of a cycle is not part of a chain.
        """
        near: dict[int, list[int]] = {}
        for a, b in self.skeleton:
            i, j = self.landmarks.index(a), self.landmarks.index(b)
            near.setdefault(i, []).append(j)
            near.setdefault(j, []).append(i)
        found: list[tuple[int, int, int]] = []
        stack = [(next(iter(near)), -1)] if near else []
        visited = {current for current, _ in stack}
        while stack:
            current, before = stack.pop()
            for after in near[current]:
                if after not in visited:
                    visited.add(after)
                    stack.append((after, current))
                    if before >= 0:
                        found.append((before, current, after))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, for the JSON header of a weights file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InstrumentSet:
        """Rebuild a set from :meth:`to_dict`'s output; accepts lists and tuples.

        Raises:
            ValueError: A name is repeated, unknown, too long or not printable.
            KeyError: ``landmarks`` or ``classes`` is missing.
        """

        def pairs(key: str) -> tuple[Any, ...]:
            return tuple(tuple(item) for item in data.get(key, ()))

        axis = data.get("shaft_axis")
        for what, key in (("landmark", "landmarks"), ("class", "classes")):
            for name in data[key]:
                _check_name(what, name)
        return cls(
            landmarks=tuple(data["landmarks"]),
            classes=tuple(data["classes"]),
            skeleton=pairs("skeleton"),
            flip_pairs=pairs("flip_pairs"),
            shaft_axis=(axis[0], axis[1]) if axis else None,
            landmark_colors=pairs("landmark_colors"),
            class_colors=pairs("class_colors"),
        )


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name or len(name) > MAX_NAME_LENGTH or printable(name, lines=False) != name:
        raise ValueError(
            f"the {what} name '{excerpt(name, MAX_NAME_LENGTH)}' is no text of 1 to {MAX_NAME_LENGTH} printable characters"
        )


ENDOVIS = InstrumentSet(
    landmarks=("center", "shaft", "head", "left_clasper", "right_clasper"),
    classes=("background", "shaft", "manipulator"),
    skeleton=(("center", "shaft"), ("shaft", "head"), ("head", "left_clasper"), ("head", "right_clasper")),
    flip_pairs=(("left_clasper", "right_clasper"),),
    shaft_axis=("center", "shaft"),
    landmark_colors=((255, 0, 255), (255, 160, 0), (255, 255, 0), (0, 255, 0), (0, 200, 255)),
    class_colors=((0, 0, 0), (70, 130, 255), (255, 210, 60)),
)
"""EndoVis 2015 robotic and the synthetic sequences: `center` is the ring on the shaft (the point in the pose files),
`shaft` lies between ring and wrist, `head` is the wrist, the claspers are the clasper tips."""

RETINAL = InstrumentSet(
    landmarks=("left_tip", "right_tip", "center"),
    classes=("background", "tool"),
    skeleton=(("center", "left_tip"), ("center", "right_tip")),
    flip_pairs=(("left_tip", "right_tip"),),
    landmark_colors=((0, 255, 0), (0, 200, 255), (255, 0, 255)),
    class_colors=((0, 0, 0), (255, 210, 60)),
)
"""Retinal microsurgery, section 3 of the paper: the two forceps tips and the joint between them."""

INSTRUMENT_SETS: Mapping[str, InstrumentSet] = {"endovis": ENDOVIS, "retinal": RETINAL}
"""Built-in sets, by their name in a training configuration."""


def find_instruments(name: str) -> InstrumentSet:
    """Get a built-in set, or read one from a YAML file with the attributes of :class:`InstrumentSet`.

    Args:
        name: One of ``INSTRUMENT_SETS``, or the path of a ``.yaml`` file; ``${NAME}`` (environment variable) and ``~`` are
            expanded.

    Raises:
        ConfigError: The set is unknown, or the file is invalid.
    """
    if name in INSTRUMENT_SETS:
        return INSTRUMENT_SETS[name]
    path = user_path(os.path.expandvars(name))
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"The instruments {name!r} are unknown; choose one of {', '.join(INSTRUMENT_SETS)}, or give a .yaml file with"
            " landmarks and classes."
        )
    data = read_yaml(path, "The instruments' file")
    try:
        unknown = sorted(set(data) - set(InstrumentSet.__dataclass_fields__)) if isinstance(data, dict) else ["?"]
        if unknown:
            raise ValueError(f"it has {unknown[0]!r} where {', '.join(InstrumentSet.__dataclass_fields__)} are known")
        return InstrumentSet.from_dict(_names_as_typed(data, path))
    except KeyError as error:
        raise ConfigError(f"The instruments' file {path} has no {error.args[0]}; list landmarks and classes.") from error
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"The instruments' file {path} describes no set of instruments: {reason}.") from error


def _names_as_typed(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert the names of a file back to text, since YAML may parse a name as a number.

    Raises:
        ConfigError: A name is a boolean, empty, or a list.
    """

    def texts(value: Any, what: str) -> Any:
        if isinstance(value, list):
            return [texts(item, f"{what}[{index}]") for index, item in enumerate(value)]
        return spelled(value, f"{what} in {path}")

    named = ("landmarks", "classes", "skeleton", "flip_pairs", "shaft_axis")
    for key in named:
        if key in data and data[key] is not None and not isinstance(data[key], list):
            raise ConfigError(f"{key} in {path} is {data[key]!r}; give a list of names.")
    return {key: texts(value, key) if key in named and value is not None else value for key, value in data.items()}
