"""Choose a part of a bank that is small enough to travel to a machine with a GPU, for ``benchmark/gpu_train.py``.

    python benchmark/carry_bank.py BANK FOLDER --megabytes 50 --width 400 --weights WEIGHTS

FOLDER gets ``bank/``, in the format of the bank itself, and with ``--weights`` the weights to start from. Sprites, tissue and
scenes get equal shares of the bytes; a kind that has no more items leaves its share to the others. Within a kind, families take
turns. Pictures wider than ``--width`` are shrunk with their cameras. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
if sys.path[0] != str(ROOT):  # run as a script, where the script's own folder stands first
    sys.path.insert(0, str(ROOT))

from benchmark.gpu_steps.shrink import exact_size, shrink  # noqa: E402
from csl_tracker.datasets.rendered.bank import (  # noqa: E402
    KINDS,
    SETTINGS,
    Bank,
    Item,
    families_of,
    item_files,
    open_bank,
    write_shard,
)
from csl_tracker.datasets.rendered.build import PER_SHARD  # noqa: E402
from csl_tracker.errors import EXIT_USER_ERROR, ConfigError, CslTrackerError  # noqa: E402
from csl_tracker.output import write_json  # noqa: E402

BANK, WEIGHTS = "bank", "weights.safetensors"
"""Content of the folder."""
LIMIT_BYTES = 64 * 2**20
"""Of everything in the folder."""
NARROWEST = 64
_ENTRY_BYTES = 160  # of a ZIP archive for each file, more than enough, with its part of the index
_MEGA = 1e6


@dataclass
class Carried:
    """What was chosen.

    Attributes:
        counts: Items of each kind.
        families: Items of each family, by kind.
        bytes: Size of the shards; an upper limit.
    """

    counts: Counter[str] = field(default_factory=Counter)
    families: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    bytes: int = 0


def taking_turns(families: Sequence[Sequence[str]]) -> list[int]:
    """An order of items in which their families take turns; an item counts for the rarest of its families.

    Args:
        families: Families of each item.
    """
    frequency = Counter(name for names in families for name in names)
    groups: dict[str, list[int]] = {}
    for number, names in enumerate(families):
        groups.setdefault(min(names, key=lambda name: (frequency[name], name)), []).append(number)
    rounds = itertools.zip_longest(*(groups[name] for name in sorted(groups)))
    return [number for turn in rounds for number in turn if number is not None]


def carry(bank: Bank, folder: Path, budget: int, width: int) -> Carried:
    """Write a part of a bank.

    Args:
        bank: The bank.
        folder: Where the part goes.
        budget: Its largest size, bytes.
        width: Widest picture, px.

    Raises:
        DatasetError: A shard is broken, or a file cannot be written.
        ConfigError: No item fits.
    """
    queues = {kind: deque(_order(bank, kind)) for kind in KINDS}
    writers = {kind: _Writer(folder, kind) for kind in KINDS}
    carried = Carried()
    with tqdm(total=budget, desc="carry", unit="B", unit_scale=True, disable=None) as bar:
        while any(queues.values()):
            kind = min((kind for kind in KINDS if queues[kind]), key=lambda kind: writers[kind].bytes)
            item = shrink(_read(bank, kind, queues[kind].popleft()), width)
            size = sum(len(content) + _ENTRY_BYTES for _, content in item_files(item))
            if carried.bytes + size > budget:
                queues[kind].clear()
                continue
            writers[kind].add(item, size)
            carried.bytes += size
            carried.counts[kind] += 1
            carried.families[kind].update(set(families_of(item)))
            bar.update(size)
        for writer in writers.values():
            writer.flush()
    if not carried.bytes:
        raise ConfigError(f"No item of {bank.root} fits into {budget / _MEGA:g} MB; give more --megabytes.")
    write_json(folder / SETTINGS, _settings(bank, carried, width))  # last: without it, the folder is no bank
    return carried


@dataclass
class _Writer:
    """Writes the shards of a kind."""

    folder: Path
    kind: str
    bytes: int = 0
    _shards: int = 0
    _items: list[Item] = field(default_factory=list)

    def add(self, item: Item, size: int) -> None:
        self._items.append(item)
        self.bytes += size
        if len(self._items) == PER_SHARD:
            self.flush()

    def flush(self) -> None:
        if self._items:
            write_shard(self.folder, self.kind, self._shards, self._items)
            self._shards += 1
            self._items.clear()


def _order(bank: Bank, kind: str) -> list[int]:
    indices: dict[Path, Any] = {}
    families = []
    for reference in getattr(bank, kind):
        if reference.shard not in indices:
            indices[reference.shard] = json.loads(reference.shard.with_suffix(".json").read_text(encoding="utf-8"))
        families.append(indices[reference.shard]["families"][reference.index])
    return taking_turns(families)


def _read(bank: Bank, kind: str, number: int) -> Item:
    return {"sprites": bank.sprite, "tissue": bank.tissue_picture, "scenes": bank.scene}[kind](number)


def _settings(bank: Bank, carried: Carried, width: int) -> dict[str, Any]:
    size = int(bank.settings["size"])
    part = {"of": dict(sorted(bank.hashes.items())), "width": width, "counts": dict(carried.counts)}
    return {**bank.settings, "size": exact_size((size, size), width)[1], "part": part}


def check(args: argparse.Namespace) -> int:
    """Check the command line, and remove what a stopped run has left.

    Returns:
        Bytes for the bank.

    Raises:
        ConfigError: A value is of no use.
    """
    if args.width < NARROWEST:
        raise ConfigError(f"--width is {args.width}; give at least {NARROWEST} px.")
    if args.weights is not None and not args.weights.is_file():
        raise ConfigError(f"There is no file {args.weights}; --weights takes the weights to start from.")
    bank = args.folder / BANK
    if (bank / SETTINGS).exists():
        raise ConfigError(f"There is a bank in {bank} already; delete it or give another folder.")
    for kind in KINDS:
        for leftover in bank.glob(f"{kind}-*"):
            leftover.unlink()
    others = (path for path in args.folder.rglob("*") if path.is_file() and path != args.folder / WEIGHTS)
    weights = args.weights or args.folder / WEIGHTS
    there = sum(path.stat().st_size for path in (*others, *([weights] if weights.is_file() else [])))
    if not 0 < args.megabytes * _MEGA <= LIMIT_BYTES - there:
        raise ConfigError(
            f"A bank of {args.megabytes:g} MB beside {there / _MEGA:.1f} MB of weights and packages does not fit: it must be"
            f" above 0 MB, and all together at most {LIMIT_BYTES / _MEGA:.1f} MB."
        )
    return int(args.megabytes * _MEGA)


def summary(carried: Carried, folder: Path) -> str:
    """What was chosen, as text."""
    sizes = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    lines = [f"{folder}: {len(sizes)} files, {sum(sizes.values()) / _MEGA:.1f} MB"]
    for kind in KINDS:
        names: Mapping[str, int] = carried.families[kind]
        listed = ", ".join(f"{name} {count}" for name, count in sorted(names.items()))
        lines.append(f"  {carried.counts[kind]} {kind}{f': {listed}' if listed else ''}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="carry_bank.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bank", type=Path, metavar="BANK", help="made by csl-tracker render; may still grow")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="gets the part")
    parser.add_argument("--megabytes", type=float, default=50.0, help="for the bank (%(default)g)")
    parser.add_argument("--width", type=int, default=400, help="of the widest picture, px (%(default)d)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights to start from, copied into the folder")
    args = parser.parse_args(argv)
    try:
        budget = check(args)
        carried = carry(open_bank(args.bank), args.folder / BANK, budget, args.width)
        if args.weights is not None:
            shutil.copyfile(args.weights, args.folder / WEIGHTS)
    except CslTrackerError as error:
        print(f"carry_bank.py: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    print(summary(carried, args.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
