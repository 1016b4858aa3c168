"""Which steps there are, in order of worth, how long each may take, and how large everything is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from csl_tracker.pixels import Size

WHOLE_S = 480.0
"""The time for which the budgets below are made; with another ``--seconds`` they grow or shrink alike."""


@dataclass(frozen=True)
class Step:
    """A part of the measurement.

    Attributes:
        name: Of its entry in the JSON, and of its module in this package.
        title: For the console.
        budget_s: The longest it may take, of :data:`WHOLE_S`; None for all the time that the steps after it leave.
        own_python: It is run by a Python of its own in a dry run, too, and not by a copy of this process.
    """

    name: str
    title: str
    budget_s: float | None
    own_python: bool = False


STEPS = (
    Step("frames", "generated frames", 25),
    Step("correctness", "every engine and precision against float32 on the CPU", 80),
    Step("latency", "latency of a frame", 105),
    Step("roofline", "distance to the roofline", 25),
    Step("throughput", "images per second by batch", 25),
    Step("fusion", "forms of the networks, compiled ones included", 40),
    Step("training", "training, images per second", 60),
    Step("paper", "the paper's network, trained for the seconds left", None),
    Step("node", "the node over DDS", 50),
    Step("device_loss", "a device that is lost", 25, own_python=True),
)
LEAST_SHARE = 0.3
"""With less than this share of its budget left a step is not begun."""
LEAST_S = 20.0
"""The same for the step without a budget."""


@dataclass(frozen=True)
class Scale:
    """How large everything is: as it is measured, or tiny for a dry run.

    Attributes:
        sources: (height, width) of the source images, px.
        compared: Frames on which engines are compared, of the first source size.
        pictures: Frames of each source size that latency is measured with, in turn.
        repeats: Timed frames of each row of latencies.
        network_repeats: Timed runs of a network alone.
        evicted: (height, width) of images A to E of the eviction sequence.
        batches: Batch sizes.
        square: Side of the matrices whose product is timed.
        copied_bytes: Bytes that a copy on the device moves one way.
        sequences: How many of the synthetic protocol's sequences are taken: of training, validation and test; None for all.
        sequence_frames: Frames of each; None for the protocol's number.
        training_steps: Timed steps of each training.
        paper_steps: Most steps of the long training; None for as many as fit.
        node_frames: Images that the node is shown at each rate.
    """

    sources: tuple[Size, ...] = ((576, 720), (1080, 1920))
    compared: int = 40
    pictures: int = 8
    repeats: int = 2000
    network_repeats: int = 300
    evicted: tuple[Size, ...] = ((576, 720), (480, 640), (540, 960), (400, 400), (1080, 1920))
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    square: int = 8192
    copied_bytes: int = 1 << 30
    sequences: tuple[int, int, int] | None = None
    sequence_frames: int | None = None
    training_steps: int = 30
    paper_steps: int | None = None
    node_frames: int = 900


FULL = Scale()
DRY = Scale(
    sources=((96, 128), (120, 160)),
    compared=1,
    pictures=2,
    repeats=2,
    network_repeats=2,
    evicted=((64, 96), (72, 96), (80, 96), (96, 96), (96, 128)),
    batches=(1, 2),
    square=64,
    copied_bytes=1 << 16,
    sequences=(2, 1, 1),
    sequence_frames=2,
    training_steps=2,
    paper_steps=3,
    node_frames=30,
)


def budgets(steps: Sequence[Step], seconds: float) -> dict[str, float | None]:
    """Budget of each step, s, when the whole may take so long."""
    return {step.name: None if step.budget_s is None else step.budget_s * seconds / WHOLE_S for step in steps}


def allowed(step: Step, later: Sequence[Step], left_s: float, seconds: float) -> float | None:
    """How long a step may take now, s.

    Args:
        step: The one that is next.
        later: Those that come after it.
        left_s: What is left of the whole.
        seconds: The whole.

    Returns:
        None where it is too late to begin it.
    """
    own = budgets((step, *later), seconds)
    budget = own.pop(step.name)
    if budget is None:
        rest = left_s - sum(value for value in own.values() if value is not None)
        return rest if rest >= LEAST_S * seconds / WHOLE_S else None
    granted = min(budget, left_s)
    return granted if granted >= LEAST_SHARE * budget else None
