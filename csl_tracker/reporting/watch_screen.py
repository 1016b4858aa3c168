"""Terminal output of ``watch``: :func:`screen` for the full view, :func:`line` for one line of plain text."""

from __future__ import annotations

import math
import textwrap

from csl_tracker.messages.diagnostics import DROPPED, ERROR, INPUT_RATE, OK, RECEIVED, STALE, UNUSABLE, WARN
from csl_tracker.messages.watch import SILENT_S, WINDOW_S, View
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate

_NONE = f"no poses in the last {WINDOW_S:g} s"
_SHOWN_ABOVE = (INPUT_RATE, RECEIVED, DROPPED, UNUSABLE, "state", "model")

_LEVELS = {OK: "OK", WARN: "WARN", ERROR: "ERROR", STALE: "STALE"}
_COLORS = {OK: "32", WARN: "33", ERROR: "31", STALE: "35"}


def screen(view: View, width: int = 100, color: bool = False) -> list[str]:
    """Format the full view.

    Args:
        view: The view.
        width: Columns of the terminal; longer lines are cut, sentences wrapped.
        color: Use ANSI colours.
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
        heading = f"{f'said {view.diagnosis_age_s:.0f} s ago' if old else 'says':>11}"
        level = STALE if old else view.diagnosis.level
        name = _LEVELS.get(level, "?")
        first, *rest = _wrap(_printable(f"{heading}  {name} {view.diagnosis.message}"), width, 13)
        lines += ["", first.replace(name, paint(name, _COLORS.get(level, "0")), 1), *rest]
        values = ", ".join(f"{key} {value}" for key, value in view.diagnosis.values.items() if not key.startswith(_SHOWN_ABOVE))
        lines += _wrap(" " * 13 + _printable(values), width, 13) if values else []
    return lines


def line(view: View) -> str:
    """Summarise a view in one line of plain text."""
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
    """Input statistics from the node's diagnostics."""
    if view.diagnosis is None or view.diagnosis_age_s is None or view.diagnosis_age_s > SILENT_S:
        return "not known: no diagnostics from the node"
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
    remark = "" if mark.visible else "  not sure enough"
    return f"{mark.name:>18}  {place}  {_bar(mark.confidence)} {mark.confidence:.2f}{remark}"


def _printable(text: str) -> str:
    """Replace control characters, since names come from the network."""
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
