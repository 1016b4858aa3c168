"""What a terminal shows of a running tracker: rates, latency and poses. This module imports no ROS.

:class:`Watch` collects what was received, :meth:`Watch.view` sums it up, :func:`screen` and :func:`line` write it.
"""

from __future__ import annotations

import math
import textwrap
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from csl_tracker.pixels import Size
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

WINDOW_S = 5.0
"""Rates and latencies are those of the last seconds."""

STALE_S = 1.0
"""Without a pose array for so long the view says that they are missing."""

SILENT_S = 3.0
"""A node that says nothing of itself for so long is not heard any more; it does so once a second."""

PLAUSIBLE_LATENCY_S = 60.0
"""An image that seems older than this, or not yet taken, was stamped by another clock (a bag's, a simulation's)."""

OK, WARN, ERROR, STALE = range(4)
"""Levels of ``diagnostic_msgs/DiagnosticStatus``."""

INPUT_RATE, RECEIVED, DROPPED, UNUSABLE = "input rate", "received", "dropped", "unusable"
"""Names of figures on ``/diagnostics``; that of unusable images goes on with the reason."""

_NONE = f"no poses in the last {WINDOW_S:g} s"
_SHOWN_ABOVE = (INPUT_RATE, RECEIVED, DROPPED, UNUSABLE, "state", "model")

_LEVELS = {OK: "OK", WARN: "WARN", ERROR: "ERROR", STALE: "STALE"}
_COLORS = {OK: "32", WARN: "33", ERROR: "31", STALE: "35"}


@dataclass(frozen=True)
class Durations:
    """Median, 95th percentile and largest of some durations, ms."""

    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Durations | None:
        """Of durations in s; None without any."""
        if not seconds:
            return None
        p50, p95 = np.percentile(np.asarray(seconds), [50, 95])
        return cls(float(p50) * 1e3, float(p95) * 1e3, max(seconds) * 1e3)

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f}, p95 {self.p95:.1f}, max {self.max:.1f} ms"


@dataclass(frozen=True)
class Diagnosis:
    """What the node says of itself on ``/diagnostics``.

    Attributes:
        level: :data:`OK`, :data:`WARN`, :data:`ERROR` or :data:`STALE`.
        message: Its summary.
        values: Its figures, by name.
        received_s: When, s.
    """

    level: int
    message: str
    values: Mapping[str, str]
    received_s: float


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
        plausible = 0 <= latency < PLAUSIBLE_LATENCY_S
        self._window.append((now_s, latency if plausible else None, result.processing_time_s))
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


def screen(view: View, width: int = 100, color: bool = False) -> list[str]:
    """Lines that show all of a view.

    Args:
        view: What to show.
        width: Columns of the terminal; longer lines are cut, sentences wrapped.
        color: Whether to use ANSI colours.
    """
    paint = _paint if color else _plain
    size = f", {view.size[1]}x{view.size[0]} px" if view.size else ""
    rows = [
        ("node", view.node + (f" ({view.state})" if view.state else "")),
        ("model", (view.model or "not known yet") + size),
        ("images", _images(view)),
        ("poses", _poses(view)),
        ("latency", _latency(view)),
        ("processing", str(view.processing) if view.processing else _NONE),
    ]
    lines = [_cut(f"{name:>11}  {text}", width) for name, text in rows]
    for problem in view.problems:
        lines += [paint(text, "33") for text in _wrap("! " + _printable(problem), width, 2)]
    for instrument in view.instruments:
        lines += ["", _cut(_title(instrument), width)]
        for mark in instrument.landmarks:
            text = _cut(_landmark(mark), width)
            lines.append(text if mark.visible else paint(text, "2"))
    if not view.instruments and view.received and not view.problems:
        lines += ["", "  no instrument in sight"]
    if view.diagnosis is not None and view.diagnosis_age_s is not None:
        old = view.diagnosis_age_s > SILENT_S
        said = f"{f'said {view.diagnosis_age_s:.0f} s ago' if old else 'says':>11}"
        level = STALE if old else view.diagnosis.level
        name = _LEVELS.get(level, "?")
        first, *rest = _wrap(_printable(f"{said}  {name} {view.diagnosis.message}"), width, 13)
        lines += ["", first.replace(name, paint(name, _COLORS.get(level, "0")), 1), *rest]
        values = ", ".join(f"{key} {value}" for key, value in view.diagnosis.values.items() if not key.startswith(_SHOWN_ABOVE))
        lines += _wrap(" " * 13 + _printable(values), width, 13) if values else []
    return lines


def line(view: View) -> str:
    """One line of plain text that shows the most important of a view."""
    if view.problems:
        return _printable(f"{view.node}: {' '.join(view.problems)}")
    latency = f"{view.latency.p50:.1f}/{view.latency.p95:.1f} ms" if view.latency else "not applicable"
    processing = f"{view.processing.p50:.1f} ms" if view.processing else "-"
    seen = "; ".join(
        f"{one.slot} #{one.track_id} {one.confidence:.2f}"
        + "".join(f" {mark.name} ({mark.x:.1f}, {mark.y:.1f})" for mark in one.landmarks if mark.visible)
        for one in view.instruments
    )
    return _printable(
        f"{view.rate_hz:.1f} poses/s, latency p50/p95 {latency}, processing {processing}: {seen or 'no instrument in sight'}"
    )


def _images(view: View) -> str:
    """What the node says of its input; it alone knows."""
    if view.diagnosis is None or view.diagnosis_age_s is None or view.diagnosis_age_s > SILENT_S:
        return "not known: the node says nothing of itself"
    values = view.diagnosis.values
    rate, received, dropped = (values.get(name, "?") for name in (INPUT_RATE, RECEIVED, DROPPED))
    unusable = [f"{count} {name}" for name, count in values.items() if name.startswith(UNUSABLE)]
    return ", ".join([f"{rate}, {received} in all, {dropped} dropped for a newer one", *unusable])


def _poses(view: View) -> str:
    if view.age_s is None:
        return "none yet"
    return f"{view.rate_hz:.1f}/s, {view.received} in all, the last one {max(0.0, view.age_s):.1f} s ago"


def _latency(view: View) -> str:
    if view.latency is not None:
        return f"{view.latency}, from the image's stamp to here"
    if view.processing is None:
        return _NONE
    return "not applicable: the images' stamps are not of this machine's clock"


def _title(instrument: InstrumentEstimate) -> str:
    angle = f", shaft at {math.degrees(instrument.shaft_angle):.0f} deg" if math.isfinite(instrument.shaft_angle) else ""
    predicted = f", predicted for {instrument.age_s:.2f} s" if instrument.predicted else ""
    return f"  {instrument.slot} #{instrument.track_id}  confidence {instrument.confidence:.2f}{angle}{predicted}"


def _bar(share: float, width: int = 10) -> str:
    filled = round(width * min(1.0, max(0.0, share))) if math.isfinite(share) else 0
    return "#" * filled + "." * (width - filled)


def _landmark(mark: LandmarkEstimate) -> str:
    known = math.isfinite(mark.x) and math.isfinite(mark.y)
    place = f"({mark.x:7.1f}, {mark.y:7.1f}) px" if known else f"{'no guess':>21}"
    unsure = "" if mark.visible else "  not sure enough"
    return f"{mark.name:>18}  {place}  {_bar(mark.confidence)} {mark.confidence:.2f}{unsure}"


def _printable(text: str) -> str:
    """Names come from the network: none of them may steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _cut(text: str, width: int) -> str:
    text = _printable(text)
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def _wrap(text: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(text, max(width, indent + 20), subsequent_indent=" " * indent, break_long_words=False)


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _plain(text: str, code: str) -> str:
    return text
