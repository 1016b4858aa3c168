"""Collect messages of a running tracker and summarise the last seconds. This module imports no ROS.

:mod:`csl_tracker.reporting.watch_screen` shows the summary in a terminal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from csl_tracker.latency import Durations, plausible
from csl_tracker.messages.diagnostics import Diagnosis
from csl_tracker.pixels import Size
from csl_tracker.results import InstrumentEstimate, TrackingResult

WINDOW_S = 5.0
"""Length of the sliding window for rates and latencies."""

STALE_S = 1.0
"""Time without a pose array after which poses count as missing."""

SILENT_S = 3.0
"""Time without diagnostics after which a node counts as silent; they are published once a second."""


@dataclass(frozen=True)
class View:
    """A summary of the received messages.

    Attributes:
        node: Full name of the node.
        state: Lifecycle state; empty if unknown.
        model: Name and hash of the weights; empty before the first pose array.
        size: (height, width) of the images, px; None before the first pose array.
        received: Number of pose arrays received.
        rate_hz: Pose arrays per second over the window; 0 without any.
        age_s: Time since the last pose array; None before the first.
        latency: From the image's stamp to the reception of its poses; None if the clocks differ or nothing was received.
        processing: The tracker's processing time, a part of the latency.
        instruments: Instruments of the last pose array.
        diagnosis: Last diagnostics of the node.
        diagnosis_age_s: Age of the diagnostics; None before the first.
        problems: Why data is missing, as full sentences.
    """

    node: str
    state: str
    model: str
    size: Size | None
    received: int
    rate_hz: float
    age_s: float | None
    latency: Durations | None
    processing: Durations | None
    instruments: tuple[InstrumentEstimate, ...]
    diagnosis: Diagnosis | None
    diagnosis_age_s: float | None
    problems: tuple[str, ...] = ()


@dataclass
class Watch:
    """Collects messages of one tracker node.

    Attributes:
        node: Full name of the node.
        state: Lifecycle state; empty if unknown.
        received: Number of pose arrays received.
    """

    node: str
    state: str = ""
    received: int = 0
    _model: str = ""
    _last: TrackingResult | None = None
    _diagnosis: Diagnosis | None = None
    # For each pose array in the window: time of reception, latency if plausible, processing time; s.
    _window: deque[tuple[float, float | None, float]] = field(default_factory=deque)

    def receive(self, result: TrackingResult, model: str, stamp_s: float, now_s: float) -> None:
        """Add a pose array.

        Args:
            result: Its content.
            model: Name and hash of the weights.
            stamp_s: The image's stamp, s.
            now_s: Time of reception on the system clock, s.
        """
        latency = now_s - stamp_s
        self._window.append((now_s, latency if plausible(latency) else None, result.processing_time_s))
        self._last, self._model = result, model
        self.received += 1

    def diagnose(self, diagnosis: Diagnosis) -> None:
        """Set the last diagnostics of the node."""
        self._diagnosis = diagnosis

    def heard(self, now_s: float) -> str:
        """The node's last diagnostic message if it is recent; otherwise empty."""
        if self._diagnosis is None or now_s - self._diagnosis.received_s > SILENT_S:
            return ""
        return self._diagnosis.message

    def age_s(self, now_s: float) -> float | None:
        """Time since the last pose array, s; None before the first."""
        return now_s - self._window[-1][0] if self._window else None

    def view(self, now_s: float, problems: Sequence[str] = ()) -> View:
        """Summarise the window.

        Args:
            now_s: System time, s.
            problems: Why data is missing, as full sentences.
        """
        while len(self._window) > 1 and self._window[0][0] < now_s - WINDOW_S:
            self._window.popleft()
        age = self.age_s(now_s)
        fresh = [entry for entry in self._window if now_s - WINDOW_S <= entry[0] <= now_s]
        elapsed = now_s - fresh[0][0] if fresh else 0.0
        return View(
            node=self.node,
            state=self.state,
            model=self._model,
            size=None if self._last is None else self._last.size,
            received=self.received,
            # Count intervals, and include the silence after the last message.
            rate_hz=(len(fresh) - 1) / elapsed if len(fresh) > 1 and elapsed > 0 else 0.0,
            age_s=age,
            latency=Durations.of([latency for _, latency, _ in fresh if latency is not None]),
            processing=Durations.of([processing for _, _, processing in fresh]),
            instruments=() if self._last is None or (age is not None and age > STALE_S) else self._last.instruments,
            diagnosis=self._diagnosis,
            diagnosis_age_s=None if self._diagnosis is None else now_s - self._diagnosis.received_s,
            problems=tuple(problems),
        )
