"""Reads one video file: displayable frames, their timestamps and orientation.

Handles what recorders produce: streams that start between two key frames, skipped duplicate frames, variable frame rates, and
rotation stored as metadata.
"""

from __future__ import annotations

import logging
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.arrays import Image
from csl_tracker.errors import DatasetError
from csl_tracker.image_files import MAX_PIXELS, size_problem
from csl_tracker.installing import install_command
from csl_tracker.pixels import Size

logger = logging.getLogger(__name__)


class _PyAV:
    """PyAV, imported lazily: training on images and the engines work without it."""

    def __getattr__(self, name: str) -> Any:
        try:
            import av
        except ImportError as error:
            raise DatasetError(
                f"Videos need PyAV, which cannot be imported ({error}); run '{install_command('av')}'."
            ) from error
        return getattr(av, name)


av = _PyAV()

DEFAULT_FPS = 25.0

_FORMATS = (
    "3gp,apng,asf,av1,avi,cavsvideo,dhav,dirac,dv,flv,gif,gxf,h261,h263,h264,hevc,ismv,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,"
    "mpegts,mpegvideo,mpjpeg,mxf,nut,obu,ogg,rm,swf,vc1,vvc,webm,wtv,yuv4mpegpipe"
)
"""Allowed FFmpeg formats: no playlists, which would open other files, and no devices."""
_BY_COUNT = ("h264", "hevc", "mjpeg", "vvc", "obu", "m4v", "mpegvideo", "cavsvideo", "dirac", "h261", "h263", "vc1")
"""Raw streams without timestamps; those that FFmpeg generates are wrong for reordered frames."""
_AVI = "avi"
"""AVI has decoding timestamps only, which are wrong for reordered frames; a repeated frame has a timestamp but no data."""
_JUMP_S = 0.5
"""A larger jump back in time marks the start of a concatenated recording."""
_MIN_FPS, _MAX_FPS = 0.001, 1000.0
"""Plausible rates; FFmpeg derives an unknown rate from the time base."""
_ATTACHED = 0x400
"""FFmpeg's disposition flag of a cover picture."""


@dataclass(frozen=True)
class Contents:
    """Frame counts of a file, from its packets without decoding.

    Attributes:
        shown: Number of displayable frames.
        skipped: Packets before the first key frame.
        hidden: Frames at the start that cannot be displayed: the skipped ones and those that depend on them.
        exact: Whether the numbers are exact.
        slots: Time slot of each frame, ascending, for containers with decoding timestamps (AVI); else None.
    """

    shown: int
    skipped: int
    hidden: int
    exact: bool
    slots: array[int] | None


@dataclass(frozen=True)
class _First:
    """The first displayable frame: its timestamp in stream units, and its display matrix."""

    pts: int | None
    matrix: tuple[int, int, int, int]


class VideoFile:
    """A video file; reopened for each read.

    Attributes:
        path: The file.
        fps: Mean frame rate, 1/s; ``DEFAULT_FPS`` if unknown.
        size: (height, width) of each frame as displayed, px.
    """

    def __init__(self, path: Path) -> None:
        """Read the header and the first frame.

        Raises:
            DatasetError: The file is missing, not a video, or its frames are too large.
        """
        self.path = path
        self._warned = False
        with self._open() as container:
            stream = _stream(container)
            self.fps = _rate(stream)
            self._stored: Size = (stream.height, stream.width)
            self._format = str(container.format.name)
        if min(self._stored) < 1:
            # FFmpeg reports no size beyond "max_pixels".
            raise DatasetError(
                f"The video {path} has no picture size in its header, or one of more than {MAX_PIXELS // 1_000_000} million px;"
                " copy it anew, or re-encode it to a smaller size."
            )
        problem = size_problem(self._stored)
        if problem is not None:
            raise DatasetError(f"The video {path} cannot be read: {problem}; re-encode it to a smaller size.")
        if not _MIN_FPS <= self.fps <= _MAX_FPS:
            self.fps = self._measured_rate()
        self._first = self._find_first()
        self._turn = _Turn(self._first.matrix)
        self.size: Size = self._stored[::-1] if self._turn.transposed else self._stored
        if not self._turn.exact:
            logger.warning(
                "The video %s has a rotation that is not a multiple of 90 degrees; it is read without rotation.",
                path,
            )

    def contents(self) -> Contents:
        """Count frames from the packets, without decoding.

        Raises:
            DatasetError: The file is truncated: it has fewer frames than its header states.
        """
        slots, leading = array("q"), array("q")
        total = shown = keys = skipped = 0
        timed = True
        with self._open() as container:
            stream = _stream(container)
            promised = stream.frames
            try:
                for packet in container.demux(stream):
                    if not packet.size:
                        continue
                    total += 1
                    shown += not packet.is_discard
                    keys += packet.is_keyframe
                    skipped += keys == 0
                    timed = timed and packet.pts is not None
                    slots.append(total - 1 if packet.dts is None else packet.dts)
                    if keys == 1 and not packet.is_discard and packet.pts is not None:
                        leading.append(packet.pts)
            except av.FFmpegError:
                pass  # missing frames are reported below
        counted = self._format == _AVI
        last = max(slots, default=-1) + 1 if counted else total
        if last < promised and not (counted and _is_whole_avi(self.path)):
            raise DatasetError(
                f"The video {self.path} ends early: its header promises {promised} frames and the file holds {total}; copy it"
                " again, or re-encode the part that is there."
            )
        if not shown:
            raise DatasetError(f"The video {self.path} holds no frame; copy it again.")
        if not keys:  # a container without key frame flags
            skipped = 0
        hidden = skipped
        if keys and self._first.pts is not None and not counted:
            hidden += sum(pts < self._first.pts for pts in leading)
        exact = not skipped or (timed and self._first.pts is not None)
        return Contents(shown - hidden, skipped, hidden, exact, array("q", sorted(slots)[skipped:]) if counted else None)

    def frames(self, contents: Contents, strict: bool, gray: bool) -> Iterator[tuple[int, Image]]:
        """Yield (time since the first frame in ns, frame).

        Args:
            contents: Result of :meth:`contents`.
            strict: Raise an error if fewer frames can be decoded than the video has; otherwise end the iteration there.
            gray: Yield uint8 (H, W) luma (full range, 0..255) rather than RGB.

        Raises:
            DatasetError: A frame cannot be decoded, is missing, or has another size.
        """
        if contents.hidden and not self._warned:
            self._warned = True
            logger.warning(
                "The first %d frames of the video %s cannot be shown, since they refer to a key frame before its beginning; the"
                " frames and their times are counted from the first one that can.",
                contents.hidden,
                self.path,
            )
        done = 0
        cause: Exception | None = None
        with self._open() as container:
            stream = _stream(container)
            clock = _Clock(self.fps, stream.time_base, contents.slots, self._format in _BY_COUNT)
            try:
                for frame in _decode(container, stream, contents.skipped):
                    if (frame.height, frame.width) != self._stored:
                        raise DatasetError(
                            f"Frame {done} of the video {self.path} has {frame.width}x{frame.height} px and the first one has"
                            f" {self._stored[1]}x{self._stored[0]}; re-encode it to one size."
                        )
                    yield clock.time_ns(done, frame.pts), self._turn.apply(frame.to_ndarray(format="gray" if gray else "rgb24"))
                    done += 1
            except av.FFmpegError as error:
                cause = error
        if done < contents.shown and (cause is not None or (strict and contents.exact)):
            raise DatasetError(
                f"The video {self.path} cannot be decoded after frame {done} of {contents.shown}"
                f" ({getattr(cause, 'strerror', None) or 'the frame is incomplete'}); copy it again, or re-encode it."
            ) from cause

    def _open(self) -> Any:
        if not self.path.exists():
            raise DatasetError(f"The video {self.path} does not exist; check the path.")
        try:
            # Without "file:", FFmpeg treats names such as 10:22.mp4 or http:x as URLs.
            container = av.open(
                f"file:{self.path}",
                options={"protocol_whitelist": "file", "format_whitelist": _FORMATS, "max_pixels": str(MAX_PIXELS)},
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(
                f"The file {self.path} cannot be opened as a video ({reason}); it is not a video or is incomplete."
            ) from error
        if not container.streams.video:
            container.close()
            raise DatasetError(f"The file {self.path} has no video stream; name a video file or a folder of images.")
        return container

    def _measured_rate(self) -> float:
        """Frame rate from the packet timestamps, used if that of the header is implausible."""
        times = array("d")
        try:
            with self._open() as container:
                for packet in container.demux(_stream(container)):
                    if packet.size and packet.pts is not None and packet.time_base is not None:
                        times.append(float(packet.pts * packet.time_base))
        except av.FFmpegError:
            pass
        step = float(np.median(np.diff(np.sort(times)))) if len(times) > 1 else 0.0
        return min(max(1 / step, _MIN_FPS), _MAX_FPS) if step > 0 else DEFAULT_FPS

    def _find_first(self) -> _First:
        """Decode the first frame; :meth:`frames` reports decoding errors."""
        upright = _First(None, (1, 0, 0, 1))
        if self._format == _AVI:  # no presentation timestamps, no display matrix
            return upright
        try:
            with self._open() as container:
                stream = _stream(container)
                for frame in _decode(container, stream, None):
                    found = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
                    matrix = upright.matrix
                    if found is not None:
                        a, b, _, c, d = struct.unpack_from("<5i" if np.little_endian else ">5i", bytes(found))
                        matrix = (a, b, c, d)
                    return _First(frame.pts, matrix)
        except av.FFmpegError:
            pass
        return upright


def _rate(stream: Any) -> float:
    rates = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return next((rate for rate in rates if _MIN_FPS <= rate <= _MAX_FPS), rates[0] if rates else DEFAULT_FPS)


def _stream(container: Any) -> Any:
    """The first video stream that is not a cover picture, with a limit on its frame size."""
    streams = [stream for stream in container.streams.video if not _disposition(stream) & _ATTACHED]
    stream = (streams or container.streams.video)[0]
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def _disposition(stream: Any) -> int:
    flags = stream.disposition
    return int(getattr(flags, "value", flags))  # no number itself in PyAV 16, the last one for Python 3.10


def _decode(container: Any, stream: Any, skipped: int | None) -> Iterator[Any]:
    """Decode after skipping this many packets; None starts at the first key frame."""
    number = 0
    begun = skipped is not None
    for packet in container.demux(stream):
        begun = begun or packet.is_keyframe
        number += packet.size > 0
        if begun and not (packet.size and number <= (skipped or 0)):
            yield from packet.decode()


class _Clock:
    """Computes frame times relative to the first frame."""

    def __init__(self, fps: float, time_base: Fraction | None, slots: array[int] | None, by_count: bool) -> None:
        self._fps, self._base, self._slots = fps, time_base, slots
        self._by_count = by_count or time_base is None
        self._offset: int | None = None
        self._last_ns = -1

    def time_ns(self, index: int, pts: int | None) -> int:
        """Time of the next frame, ns; strictly increasing."""
        if self._slots is not None:
            index = self._slots[index] - self._slots[0] if index < len(self._slots) else index
        if self._slots is not None or self._by_count or pts is None or self._base is None:
            time_ns = round(index * 1e9 / self._fps)
        else:
            given = round(pts * self._base * 1_000_000_000)
            if self._offset is None:
                self._offset = given
            if given - self._offset < self._last_ns - _JUMP_S * 1e9:
                self._offset = given - self._last_ns - round(1e9 / self._fps)
            time_ns = given - self._offset
        self._last_ns = max(time_ns, self._last_ns + 1)
        return self._last_ns


class _Turn:
    """Applies a display matrix: ``x' = a x + c y`` and ``y' = b x + d y``, with y downwards.

    Attributes:
        transposed: Whether width and height are swapped.
        exact: Whether the rotation is a multiple of 90 degrees, mirrored or not; otherwise the image stays unchanged.
    """

    def __init__(self, matrix: tuple[int, int, int, int]) -> None:
        least = 0.01 * max(map(abs, matrix))  # rounding error of cos(90 degrees)
        a, b, c, d = (0 if abs(value) < least else value for value in matrix)
        self.transposed = bool(b and c and not a and not d)
        self.exact = self.transposed or bool(a and d and not b and not c)
        self._flip_x = (c if self.transposed else a) < 0 and self.exact
        self._flip_y = (b if self.transposed else d) < 0 and self.exact

    def apply(self, image: Image) -> Image:
        """The image as displayed, contiguous."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        if self._flip_y:
            image = image[::-1]
        if self._flip_x:
            image = image[:, ::-1]
        return np.ascontiguousarray(image)


def _is_whole_avi(path: Path) -> bool:
    """Whether the file is as long as its RIFF chunks state; then frames at the end may have no data."""
    at, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            kind, length = struct.unpack("<4sI", file.read(8))
            if kind != b"RIFF":
                break
            at += 8 + length + length % 2
    return 0 < at <= size + 1
