"""Diagnostics of the tracker node: frame counts, latencies and an overall verdict. This module imports no ROS."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from csl_tracker.latency import Durations, plausible
from csl_tracker.messages.diagnostics import ERROR, OK, WARN
from csl_tracker.process_memory import resident_mb

WINDOW_S = 5.0
"""Length of the sliding window for rates, shares and latencies."""


@dataclass(frozen=True)
class Limits:
    """Thresholds of the verdict.

    Attributes:
        dropped_share: WARN above this share of dropped frames.
        stuck_s: ERROR when one frame takes longer than this, s.
    """

    dropped_share: float = 0.1
    stuck_s: float = 2.0


@dataclass(frozen=True)
class FrameSums:
    """Sums over the sliding window, unless stated otherwise.

    Attributes:
        input_hz: Images received per second.
        output_hz: Pose arrays published per second.
        received: Images received.
        dropped: Images replaced by a newer one in the queue.
        skipped: Images skipped by the rate limit or while tracking was disabled.
        late: Images skipped because a newer one arrived first.
        unusable: Images that could not be used, by reason.
        processing: From the image in memory to its poses.
        latency: From the image's stamp to the publication of its poses; None if the clocks cannot be compared.
        total: Counts since activation: ``received``, ``tracked``, ``dropped``, ``skipped``, ``late``, ``unusable: REASON``.
        silence_s: Time since the last image, s; None before the first.
    """

    input_hz: float = 0.0
    output_hz: float = 0.0
    received: int = 0
    dropped: int = 0
    skipped: int = 0
    late: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    processing: Durations | None = None
    latency: Durations | None = None
    total: Counter[str] = field(default_factory=Counter)
    silence_s: float | None = None


class FrameStatistics:
    """Thread-safe frame counters; all times are on a monotonic clock, s."""

    def __init__(self, now_s: float) -> None:
        self._lock = threading.Lock()
        self._began_s = now_s
        self._last_s: float | None = None
        self._total: Counter[str] = Counter()
        self._events: deque[tuple[float, str, str]] = deque()
        self._tracked: deque[tuple[float, float, float | None]] = deque()

    def receive(self, now_s: float) -> None:
        """Count a received image."""
        with self._lock:
            self._last_s = now_s
            self._count(now_s, "received")

    def drop(self, now_s: float) -> None:
        """Count an image that a newer one replaced."""
        with self._lock:
            self._count(now_s, "dropped")

    def skip(self, now_s: float) -> None:
        """Count an image that was skipped on purpose."""
        with self._lock:
            self._count(now_s, "skipped")

    def be_late(self, now_s: float) -> None:
        """Count an image that arrived after a newer one."""
        with self._lock:
            self._count(now_s, "late")

    def fail(self, now_s: float, reason: str) -> int:
        """Count an unusable image.

        Returns:
            Number of failures with this reason since activation.
        """
        with self._lock:
            self._count(now_s, "unusable", reason)
            return self._total[f"unusable: {reason}"]

    def track(self, now_s: float, processing_s: float, latency_s: float | None) -> None:
        """Count a published pose array.

        Args:
            now_s: Time of publication.
            processing_s: From the image in memory to the poses.
            latency_s: From the image's stamp to now; None without a stamp. Implausible values (other clock) are ignored.
        """
        comparable = latency_s is not None and plausible(latency_s)
        with self._lock:
            self._total["tracked"] += 1
            self._tracked.append((now_s, processing_s, latency_s if comparable else None))
            self._forget(now_s)

    def sums(self, now_s: float) -> FrameSums:
        """Sums over the window that ends now."""
        with self._lock:
            self._forget(now_s)
            kinds = Counter(kind for _, kind, _ in self._events)
            unusable = Counter(reason for _, kind, reason in self._events if kind == "unusable")
            tracked = list(self._tracked)
            total, last = self._total.copy(), self._last_s
        window = min(WINDOW_S, max(now_s - self._began_s, 1.0))
        latencies = [latency for _, _, latency in tracked if latency is not None]
        return FrameSums(
            input_hz=kinds["received"] / window,
            output_hz=len(tracked) / window,
            received=kinds["received"],
            dropped=kinds["dropped"],
            skipped=kinds["skipped"],
            late=kinds["late"],
            unusable=unusable,
            processing=Durations.of([processing for _, processing, _ in tracked]),
            latency=Durations.of(latencies) if len(latencies) == len(tracked) else None,
            total=total,
            silence_s=None if last is None else now_s - last,
        )

    def _count(self, now_s: float, kind: str, reason: str = "") -> None:
        self._total[f"{kind}: {reason}" if reason else kind] += 1
        self._events.append((now_s, kind, reason))
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        for events in (self._events, self._tracked):
            while events and events[0][0] < now_s - WINDOW_S:
                events.popleft()


@dataclass(frozen=True)
class Situation:
    """State of an active node besides its frame counts.

    Attributes:
        topic: Topic of the images.
        stale_after_s: Time without an image after which the input is stale, s.
        busy_s: Processing time of the current frame so far, s.
        lease_s: Liveliness lease of the poses, s; None without one.
        enabled: False after ``~/enable`` switched tracking off.
        notes: Warnings that do not stop tracking, as full sentences.
    """

    topic: str
    stale_after_s: float = 1.0
    busy_s: float = 0.0
    lease_s: float | None = None
    enabled: bool = True
    notes: Sequence[str] = ()


def judge(sums: FrameSums, situation: Situation, limits: Limits | None = None) -> tuple[int, str]:
    """The worst level, and one sentence per finding, errors first."""
    limits = Limits() if limits is None else limits
    found: list[tuple[int, str]] = []
    if situation.busy_s > limits.stuck_s:
        found.append((ERROR, f"The tracker is stuck: the current frame has taken {situation.busy_s:.1f} s so far."))
    if sums.silence_s is None:
        found.append((WARN, f"No image received yet on {situation.topic}."))
    elif sums.silence_s > situation.stale_after_s:
        found.append((ERROR, f"The camera has stopped: no image on {situation.topic} for {sums.silence_s:.1f} s."))
    if sums.unusable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(sums.unusable.items()))
        found.append((ERROR if sums.processing is None else WARN, f"Unusable images in the last {WINDOW_S:g} s: {reasons}."))
    if sums.late:
        found.append((WARN, f"{sums.late} of the last {sums.received} images arrived after a newer one and were skipped."))
    found += [(WARN, note) for note in situation.notes]
    if situation.lease_s is not None and sums.processing is not None and sums.processing.p95 > situation.lease_s * 1e3:
        found.append(
            (
                WARN,
                f"Tracking takes {sums.processing.p95:.0f} ms, longer than the lease of {situation.lease_s * 1e3:.0f} ms:"
                " lower expected_rate, or use a faster device.",
            )
        )
    if sums.received and sums.dropped > limits.dropped_share * sums.received:
        share = 100 * sums.dropped / sums.received
        found.append((WARN, f"{share:.0f} % of the images are dropped: they arrive faster than they can be tracked."))
    if not found:
        return (OK, f"Tracking at {sums.output_hz:.1f} Hz.") if situation.enabled else (OK, "Disabled by ~/enable.")
    found.sort(key=lambda item: -item[0])
    return found[0][0], " ".join(text for _, text in found)


def figures(sums: FrameSums) -> dict[str, str]:
    """The sums as keys and values, in display order."""
    nothing = "not applicable"
    counts = {name: str(sums.total[name]) for name in ("received", "tracked", "dropped", "skipped", "late")}
    unusable = {name: str(count) for name, count in sorted(sums.total.items()) if name.startswith("unusable")}
    return {
        "input rate": f"{sums.input_hz:.1f} Hz",
        "output rate": f"{sums.output_hz:.1f} Hz",
        **counts,
        **unusable,
        "processing": nothing if sums.processing is None else str(sums.processing),
        "stamp to publication": nothing if sums.latency is None else str(sums.latency),
        "last image": "none yet" if sums.silence_s is None else f"{sums.silence_s:.2f} s ago",
    }


@dataclass(frozen=True)
class WeightsFile:
    """Identity of a weights file when it was loaded, to detect later changes."""

    path: Path
    identity: tuple[int, int, int] | None

    @classmethod
    def of(cls, path: Path | str) -> WeightsFile:
        """Record the present identity of a file."""
        return cls(Path(path), _identity(Path(path)))

    def change(self) -> str:
        """A sentence if the file has changed since it was loaded; otherwise empty."""
        now = _identity(self.path)
        if now == self.identity:
            return ""
        event = "was removed" if now is None else "was replaced"
        return f"The weights file {self.path} {event} after loading; the loaded model stays in use until cleanup and configure."


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def memory_mb() -> float | None:
    """Resident memory of this process, MB; None if unknown."""
    try:
        return resident_mb()
    except (OSError, IndexError, ValueError):
        return None


def temperature_c() -> float | None:
    """Temperature of the hottest thermal zone, degrees Celsius; None if unknown."""
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max(found, default=None)
