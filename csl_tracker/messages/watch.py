"""What was received from a running tracker, summed up over the last seconds. This module imports no ROS.

:class:`Watch` collects, :meth:`Watch.view` sums up; :mod:`csl_tracker.reporting.watch_screen` shows it in a terminal.
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
"""Rates and latencies are those of the last seconds."""

STALE_S = 1.0
"""Without a pose array for so long the view says that they are missing."""

SILENT_S = 3.0
"""A node that has said nothing of itself for so long is no longer heard; it does so once a second."""


@dataclass(frozen=True)
class View:
    """One look at the node.

    Attributes:
        node: Full name of the node.
        state: State of its lifecycle; empty where it is not known.
        model: Name and hash of its weights; empty before the first pose array.
        size: (height, width) of the images, px; None before the first pose array.
        received: Pose arrays received since the watch began.
        rate_hz: Pose arrays per second over the window; 0 without any.
        age_s: Since the last one was received; None before the first.
        latency: From the image's stamp to the reception of its poses; None where the two clocks differ, or nothing came.
        processing: The tracker's own share of it.
        instruments: What was seen last.
        diagnosis: What the node said last of itself.
        diagnosis_age_s: Since then; None where it has said nothing yet.
        problems: Full sentences on why something is missing.
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
    """Collects what came from one tracker node.

    Attributes:
        node: Full name of the node.
        state: State of its lifecycle, where it is known.
        received: Pose arrays received so far.
    """

    node: str
    state: str = ""
    received: int = 0
    _model: str = ""
    _last: TrackingResult | None = None
    _diagnosis: Diagnosis | None = None
    # Of each pose array in the window: reception, latency where it is plausible, processing time; s.
    _window: deque[tuple[float, float | None, float]] = field(default_factory=deque)

    def receive(self, result: TrackingResult, model: str, stamp_s: float, now_s: float) -> None:
        """Take in a pose array.

        Args:
            result: What it tells.
            model: Name and hash of the weights.
            stamp_s: The image's stamp, s.
            now_s: Time of reception by the system's clock, s.
        """
        latency = now_s - stamp_s
        self._window.append((now_s, latency if plausible(latency) else None, result.processing_time_s))
        self._last, self._model = result, model
        self.received += 1

    def diagnose(self, diagnosis: Diagnosis) -> None:
        """Take in what the node says of itself."""
        self._diagnosis = diagnosis

    def heard(self, now_s: float) -> str:
        """What the node says of itself, where it has said something lately; else empty."""
        if self._diagnosis is None or now_s - self._diagnosis.received_s > SILENT_S:
            return ""
        return self._diagnosis.message

    def age_s(self, now_s: float) -> float | None:
        """Time since the last pose array, s; None before the first."""
        return now_s - self._window[-1][0] if self._window else None

    def view(self, now_s: float, problems: Sequence[str] = ()) -> View:
        """Sum up.

        Args:
            now_s: The system's clock, s.
            problems: Full sentences on why something is missing.
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
            # Intervals, not messages, are what a span of time holds; silence after the last one counts too.
            rate_hz=(len(fresh) - 1) / elapsed if len(fresh) > 1 and elapsed > 0 else 0.0,
            age_s=age,
            latency=Durations.of([latency for _, latency, _ in fresh if latency is not None]),
            processing=Durations.of([processing for _, _, processing in fresh]),
            instruments=() if self._last is None or (age is not None and age > STALE_S) else self._last.instruments,
            diagnosis=self._diagnosis,
            diagnosis_age_s=None if self._diagnosis is None else now_s - self._diagnosis.received_s,
            problems=tuple(problems),
        )
