"""What a step is given, and where it leaves what it finds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.gpu_steps.plan import DRY, FULL, Scale
from csl_tracker.output import write_json


@dataclass(frozen=True)
class Context:
    """What a step is given.

    Attributes:
        folder: Of temporary files that the steps share.
        device: ``cuda:0``, or ``cpu`` in a dry run.
        dry: Everything is tiny, on the CPU, and no figure is worth keeping.
        deadline: By ``time.monotonic()``; the process is ended soon after it.
        wheels: Folder that was carried along, if any.
    """

    folder: Path
    device: str
    dry: bool
    deadline: float
    wheels: Path | None = None

    @property
    def scale(self) -> Scale:
        """How large everything is."""
        return DRY if self.dry else FULL

    @property
    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self.deadline - time.monotonic()

    def until(self, share: float) -> float:
        """The moment by which this share of the time left is over, by ``time.monotonic()``."""
        return time.monotonic() + share * self.left_s


@dataclass
class Part:
    """A step's entry in the JSON. It is written whenever it grows: what was found survives a crash."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)

    def note(self, **values: Any) -> None:
        """Set keys."""
        self.data.update(values)
        self.write()

    def row(self, row: dict[str, Any], table: str = "rows") -> dict[str, Any]:
        """Append to a list of rows; whoever changes the row later calls :meth:`write`."""
        self.data.setdefault(table, []).append(row)
        self.write()
        return row

    def write(self) -> None:
        """Write all of it, atomically."""
        write_json(self.path, self.data)
