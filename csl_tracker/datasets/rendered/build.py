"""Fill a bank, in several processes; a killed run goes on where it stopped."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.datasets.rendered.bank import FORMAT, KINDS, SETTINGS, Item, read_settings, shard_path, write_shard
from csl_tracker.datasets.rendered.denoise import denoise
from csl_tracker.errors import ConfigError
from csl_tracker.output import write_json
from csl_tracker.provenance import versions

PER_SHARD = 25
_SEED_CODES = {"sprites": 77, "tissue": 78, "scenes": 79}
_SCENE_SHARE = 2 / 3  # of the paths per pixel: a scene's grain is the same on tools and tissue
_POLL_S = 0.5


@dataclass(frozen=True)
class Plan:
    """What a bank contains.

    Attributes:
        seed: Of the bank; item k of a kind depends on the seed, the kind and k only.
        model: Folder of the dVRK's model; empty for parametric tools only.
        size: Height and width of a sprite's view, px; pictures and scenes are as wide, and 4/5 as high.
        samples: Paths per pixel; whole scenes get two thirds.
        counts: Number of items of each kind.
    """

    seed: int
    model: str
    size: int
    samples: int
    counts: Mapping[str, int]

    def shards(self) -> list[tuple[str, int, int]]:
        """Kind, number and items of each shard; the kinds take turns, so that an incomplete bank is useful."""
        found = []
        for kind in KINDS:
            count = self.counts.get(kind, 0)
            total = -(-count // PER_SHARD)
            for number in range(total):
                items = min(PER_SHARD, count - number * PER_SHARD)
                found.append(((number + 0.5) / total, kind, number, items))
        return [(kind, number, items) for _, kind, number, items in sorted(found)]

    def settings(self) -> dict[str, Any]:
        """What must not change when a bank is continued."""
        return {"format": FORMAT, "seed": self.seed, "size": self.size, "samples": self.samples, "model": bool(self.model)}


def missing(plan: Plan, folder: Path) -> list[tuple[str, int, int]]:
    """The plan's shards that are not in the folder."""
    return [entry for entry in plan.shards() if not shard_path(folder, *entry[:2]).with_suffix(".json").is_file()]


def prepare(plan: Plan, folder: Path) -> None:
    """Create the folder and its settings, or check that the settings of an existing bank are the plan's.

    Raises:
        ConfigError: The folder has a bank with other settings.
        DatasetError: It cannot be written.
    """
    if (folder / SETTINGS).is_file():
        had = read_settings(folder)
        for key, value in plan.settings().items():
            if had.get(key) != value:
                raise ConfigError(
                    f"The bank {folder} was begun with {key} {had.get(key)!r}, not {value!r}; give the same, or another folder."
                )
    else:
        write_json(folder / SETTINGS, {**plan.settings(), "versions": versions()})
    for leftover in folder.glob(".*.part*"):
        leftover.unlink(missing_ok=True)


def draw_item(plan: Plan, kind: str, number: int, shelf: Any) -> Item:
    """Render one item.

    Args:
        plan: The bank's plan.
        kind: One of ``KINDS``.
        number: The item's number among its kind.
        shelf: A :class:`csl_tracker.datasets.rendered.sprites.ToolShelf`.
    """
    rng = np.random.default_rng((plan.seed, _SEED_CODES[kind], number))
    size = (plan.size * 4 // 5, plan.size)
    if kind == "sprites":
        from csl_tracker.datasets.rendered.sprites import draw_sprite

        return draw_sprite(rng, shelf, plan.size, plan.samples)
    if kind == "tissue":
        from csl_tracker.datasets.rendered.tissue import render_tissue_picture

        picture = render_tissue_picture(rng, size, plan.samples)
        return replace(picture, image=denoise(picture.image))
    from csl_tracker.datasets.rendered.scenes import draw_scene

    return draw_scene(rng, shelf, size, max(1, round(_SCENE_SHARE * plan.samples)))


_counter: Any = None


def _begin(counter: Any) -> None:
    global _counter
    _counter = counter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers


@lru_cache(maxsize=1)
def _shelf(model: str) -> Any:
    """The tools, read once in each process."""
    from csl_tracker.datasets.rendered.dvrk_model import DvrkModel
    from csl_tracker.datasets.rendered.sprites import ToolShelf

    return ToolShelf(DvrkModel(model) if model else None)


def _render_shard(plan: Plan, folder: str, kind: str, number: int, count: int) -> None:
    shelf = _shelf(plan.model)
    items = []
    for index in range(count):
        items.append(draw_item(plan, kind, number * PER_SHARD + index, shelf))
        with _counter.get_lock():
            _counter.value += 1
    write_shard(Path(folder), kind, number, items)


def build(plan: Plan, folder: Path, workers: int, progress: Callable[[int], object] = lambda items: None) -> None:
    """Render the missing shards.

    Args:
        plan: What the bank contains.
        folder: Its folder.
        workers: Processes.
        progress: Called with the number of items that were rendered since the last call.

    Raises:
        ConfigError: The folder has a bank with other settings.
        DatasetError: The folder cannot be written, or the model is broken.
        KeyboardInterrupt: Stopped; complete shards are kept.
    """
    prepare(plan, folder)
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with context.Pool(workers, _begin, (counter,), maxtasksperchild=40) as pool:
        running = [pool.apply_async(_render_shard, (plan, str(folder), *entry)) for entry in missing(plan, folder)]
        seen = 0
        while running:
            running = [result for result in running if not _finished(result)]
            if running:
                running[0].wait(_POLL_S)
            progress(counter.value - seen)
            seen = counter.value


def _finished(result: AsyncResult[None]) -> bool:
    """Whether a task is over.

    Raises:
        Exception: What the task raised.
    """
    if not result.ready():
        return False
    result.get()
    return True
