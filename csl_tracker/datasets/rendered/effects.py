"""Random effects of a video chain on whole labelled frames, for training.

The effects are ordered as in a real chain: lens, optics, light, sensor, colour, zoom, overlays, layout, transmission. Each is a
function ``(rng, sample, strength 0..1) -> Sample`` that keeps the size of the frame and the agreement of image, label map,
instances and landmarks; its parameters come from continuous ranges.

The benchmark of robustness (:mod:`csl_tracker.datasets.corruptions`) has other, frozen implementations: nothing here may use
them, so that it measures generalisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from csl_tracker.datasets.rendered import effects_layout as layout
from csl_tracker.datasets.rendered import effects_lens as lens
from csl_tracker.datasets.rendered import effects_light as light
from csl_tracker.datasets.rendered import effects_screen as screen
from csl_tracker.datasets.rendered import effects_sensor as sensor
from csl_tracker.datasets.rendered.effects_fields import Apply
from csl_tracker.datasets.sample import Sample


@dataclass(frozen=True)
class Effect:
    """One effect.

    Attributes:
        apply: Random generator, sample and strength 0..1 to the changed sample; the given sample is not changed.
        probability: Default probability in :class:`Recipe`.
        geometric: Whether it moves the picture or hides instruments, and so changes landmarks or labels for good.
    """

    apply: Apply
    probability: float
    geometric: bool = False


EFFECTS: Mapping[str, Effect] = {
    "smoke": Effect(lens.smoke, 0.14),
    "fog": Effect(lens.fog, 0.06),
    "blood": Effect(lens.blood, 0.10),
    "dirt": Effect(lens.dirt, 0.09),
    "water": Effect(lens.water, 0.06),
    "defocus": Effect(sensor.defocus, 0.08),
    "blur": Effect(sensor.blur, 0.12),
    "uneven": Effect(light.uneven, 0.12),
    "dark": Effect(light.dark, 0.12),
    "bright": Effect(light.bright, 0.10),
    "noise": Effect(sensor.noise, 0.20),
    "white_balance": Effect(light.white_balance, 0.14),
    "cast": Effect(light.cast, 0.12),
    "saturation": Effect(light.saturation, 0.12),
    "swapped": Effect(light.swapped, 0.02),
    "monochrome": Effect(light.monochrome, 0.10),
    "sharpen": Effect(sensor.sharpen, 0.07),
    "interlace": Effect(sensor.interlace, 0.09),
    "zoom": Effect(layout.zoom, 0.22, geometric=True),
    "marks": Effect(screen.marks, 0.05),
    "text": Effect(screen.text, 0.09),
    "logos": Effect(screen.logos, 0.04, geometric=True),
    "bars": Effect(screen.bars, 0.08, geometric=True),
    "boxed": Effect(layout.boxed, 0.12, geometric=True),
    "shaped": Effect(layout.shaped, 0.08, geometric=True),
    "side_by_side": Effect(layout.side_by_side, 0.02, geometric=True),
    "top_bottom": Effect(layout.top_bottom, 0.015, geometric=True),
    "inset": Effect(layout.inset, 0.04, geometric=True),
    "resample": Effect(sensor.resample, 0.09),
    "chroma": Effect(sensor.chroma, 0.10),
    "jpeg": Effect(sensor.jpeg, 0.18),
}
"""Name -> effect, in the order of application."""


def _defaults() -> dict[str, float]:
    return {name: effect.probability for name, effect in EFFECTS.items()}


@dataclass(frozen=True)
class Recipe:
    """How effects are drawn.

    Attributes:
        probabilities: Effect name -> probability; effects without an entry are never applied.
        strength: Limits of the strength, 0..1, drawn uniformly for each effect.
        most: Maximum number of effects on one frame; of more drawn ones, random ones stay.
    """

    probabilities: Mapping[str, float] = field(default_factory=_defaults)
    strength: tuple[float, float] = (0.0, 1.0)
    most: int = 5

    def __post_init__(self) -> None:
        """Validate the names.

        Raises:
            ValueError: An effect is unknown.
        """
        unknown = sorted(set(self.probabilities) - set(EFFECTS))
        if unknown:
            raise ValueError(f"there are no effects {unknown}; known are {', '.join(EFFECTS)}")


DEFAULT = Recipe()
"""All effects with their own probabilities."""


@dataclass(frozen=True)
class Step:
    """One drawn effect.

    Attributes:
        name: Key of :data:`EFFECTS`.
        strength: 0..1.
        seed: Seed of its random generator.
    """

    name: str
    strength: float
    seed: int


def random_effects(rng: np.random.Generator, sample: Sample, recipe: Recipe = DEFAULT) -> Sample:
    """Apply a few random effects to a frame."""
    return apply_steps(sample, draw_steps(rng, recipe, EFFECTS))


def random_views(rng: np.random.Generator, views: Sequence[Sample], recipe: Recipe = DEFAULT) -> list[Sample]:
    """Apply random effects to several views of one frame, with common geometry.

    All views share the effects that move the picture or hide instruments, and differ in the others. So their landmarks and
    instances stay equal, and so do their labels, except pixels that one view ignores.
    """
    common = draw_steps(rng, recipe, (name for name, effect in EFFECTS.items() if effect.geometric))
    others = [name for name, effect in EFFECTS.items() if not effect.geometric]
    return [apply_steps(view, [*common, *draw_steps(rng, recipe, others)]) for view in views]


def draw_steps(rng: np.random.Generator, recipe: Recipe, names: Iterable[str]) -> list[Step]:
    """Draw which of the named effects to apply, how strongly, and with which seeds."""
    drawn = [name for name in names if rng.random() < recipe.probabilities.get(name, 0.0)]
    if len(drawn) > recipe.most:
        drawn = [drawn[i] for i in np.sort(rng.choice(len(drawn), recipe.most, replace=False))]
    return [Step(name, float(rng.uniform(*recipe.strength)), int(rng.integers(2**63))) for name in drawn]


def apply_steps(sample: Sample, steps: Sequence[Step]) -> Sample:
    """Apply drawn effects, in the order of :data:`EFFECTS`."""
    order = {name: number for number, name in enumerate(EFFECTS)}
    for one in sorted(steps, key=lambda one: order[one.name]):
        sample = EFFECTS[one.name].apply(np.random.default_rng(one.seed), sample, one.strength)
    return sample
