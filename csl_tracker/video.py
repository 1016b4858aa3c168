"""Frames from a video file or a folder of images, and back into a video: streaming, RGB, with PyAV.

PyAV rather than OpenCV, because its errors have a cause, the packets can be counted without decoding, and it writes H.264, the
one codec that every player and browser opens.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.errors import DatasetError
from csl_tracker.output import AtomicOutput
from csl_tracker.pixels import Size

Image = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".webp"})
DEFAULT_FPS = 25.0
_EVENLY_SPACED = ("avi", "h264", "hevc", "mjpeg")
"""Containers without times of display: what FFmpeg makes up for them is wrong where frames were reordered."""
_ENCODERS = ("libx264", "libopenh264", "libvpx-vp9", "mpeg4")
"""The first that is there is taken; browsers play all but the last."""
_BT601_LIMITED = {"colorspace": 6, "color_range": 1}  # FFmpeg's numbers; what swscale does to an untagged frame


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts ``frame2.png`` before ``frame10.png``."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", path.name)]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")  # macOS leaves ._frame1.png behind


def read_image(path: Path, *, gray: bool = False) -> Image:
    """Read an image file.

    Args:
        path: The file.
        gray: Give uint8 (H, W) rather than RGB.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        DatasetError: It is missing, broken or no image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"The image {path} cannot be read; it is broken or no image, replace or remove it.")
    return np.asarray(image if gray else cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class VideoReader:
    """The frames of a video file, or of a folder of images in natural order; iterating again starts anew.

    Only one frame is in memory at a time. The header is read at once; the number of frames is checked against the header by
    walking through the packets (not decoding them), so that a truncated copy is noticed before the work starts.

    Attributes:
        path: The file or the folder.
        fps: Frames a second; for a folder, and for a file that does not say, ``DEFAULT_FPS``.
        size: (height, width) of every frame, px.
    """

    def __init__(self, path: str | os.PathLike[str], *, gray: bool = False, strict: bool = True) -> None:
        """Open the header.

        Args:
            path: A video file, or a folder of images of equal size.
            gray: Yield uint8 (H, W) luma (full range, 0..255) rather than RGB.
            strict: A video that decodes to fewer frames than it has is an error; otherwise the iteration just ends there.

        Raises:
            DatasetError: The path is missing, is no video, or holds no image.
        """
        self.path = Path(path)
        self._gray = gray
        self._strict = strict
        self._images: list[Path] = []
        self._length: int | None = None
        if self.path.is_dir():
            self._images = sorted(filter(_is_image, self.path.iterdir()), key=natural_order)
            if not self._images:
                raise DatasetError(
                    f"The folder {self.path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}); name a video file or a"
                    " folder whose images are the frames."
                )
            self.fps = DEFAULT_FPS
            self.size: Size = read_image(self._images[0], gray=self._gray).shape[:2]
            self._length = len(self._images)
            return
        with self._open() as container:
            stream = container.streams.video[0]
            self.fps = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
            self.size = (stream.height, stream.width)
        if min(self.size) < 1:
            raise DatasetError(f"The video {self.path} has no picture size in its header; it is broken, copy it anew.")

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read, in the order of the frames."""
        return tuple(self._images) if self._images else (self.path,)

    def __len__(self) -> int:
        """Number of frames.

        Raises:
            DatasetError: The file has fewer frames than its header promises: it was cut off while being written or copied.
        """
        if self._length is None:
            self._length = self._count()
        return self._length

    def __iter__(self) -> Iterator[Image]:
        """Yield uint8 (H, W, 3) RGB frames, or (H, W) with ``gray``.

        Raises:
            DatasetError: A frame cannot be decoded, is missing, or has a size of its own.
        """
        return (image for _, image in self.timed())

    def timed(self) -> Iterator[tuple[int, Image]]:
        """Yield each frame after its time since the first one, ns: the file's own, which need not be evenly spaced.

        Raises:
            DatasetError: As iterating.
        """
        if self._images:
            return ((round(index * 1e9 / self.fps), image) for index, image in enumerate(self._iterate_images()))
        return self._iterate_video()

    def _open(self) -> Any:
        if not self.path.exists():
            raise DatasetError(f"The video {self.path} does not exist; check the path.")
        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(
                f"The file {self.path} cannot be opened as a video ({reason}); it is no video, or its writing was cut off."
            ) from error
        if not container.streams.video:
            container.close()
            raise DatasetError(f"The file {self.path} has no video stream; name a video file or a folder of images.")
        return container

    def _count(self) -> int:
        with self._open() as container:
            stream = container.streams.video[0]
            promised = stream.frames
            total = shown = 0
            try:
                for packet in container.demux(stream):
                    if packet.size:
                        total += 1
                        shown += not packet.is_discard
            except av.FFmpegError:
                pass  # the shortage is reported below, with the frame
        if total < promised:
            raise DatasetError(
                f"The video {self.path} ends early: its header promises {promised} frames and the file holds {total}; copy it"
                " again, or re-encode the part that is there."
            )
        if not shown:
            raise DatasetError(f"The video {self.path} holds no frame; copy it again.")
        return shown

    def _iterate_video(self) -> Iterator[tuple[int, Image]]:
        expected = len(self)
        done = 0
        first_s, last_ns = 0.0, -1
        cause: Exception | None = None
        pixel_format = "gray" if self._gray else "rgb24"
        with self._open() as container:
            try:
                for frame in container.decode(container.streams.video[0]):
                    if (frame.height, frame.width) != self.size:
                        raise DatasetError(
                            f"Frame {done} of the video {self.path} has {frame.width}x{frame.height} px and the first one has"
                            f" {self.size[1]}x{self.size[0]}; re-encode it to one size."
                        )
                    if not done:
                        first_s = frame.time or 0.0
                    if frame.time is None or container.format.name in _EVENLY_SPACED:
                        time_ns = round(done * 1e9 / self.fps)
                    else:
                        time_ns = max(round((frame.time - first_s) * 1e9), last_ns + 1)
                    yield time_ns, frame.to_ndarray(format=pixel_format)
                    last_ns = time_ns
                    done += 1
            except av.FFmpegError as error:
                cause = error
        if done < expected and (self._strict or cause is not None):
            raise DatasetError(
                f"The video {self.path} cannot be decoded after frame {done} of {expected}"
                f" ({getattr(cause, 'strerror', None) or 'the frame is incomplete'}); copy it again, or re-encode it."
            ) from cause

    def _iterate_images(self) -> Iterator[Image]:
        for path in self._images:
            image = read_image(path, gray=self._gray)
            if image.shape[:2] != self.size:
                raise DatasetError(
                    f"The image {path} has {image.shape[1]}x{image.shape[0]} px and {self._images[0].name} has"
                    f" {self.size[1]}x{self.size[0]}; all frames of a folder need one size."
                )
            yield image


class VideoWriter(AtomicOutput):
    """Writes frames as an H.264 video (yuv420p) under a temporary name, which becomes ``path`` when it is closed.

    As a context manager it keeps the video when the block ends well and leaves nothing when the block raises. An odd width or
    height grows by one repeated column or row, since yuv420p has even sizes only.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, *, crf: int = 18, preset: str = "veryfast") -> None:
        """Prepare the file; its size is the first frame's.

        Args:
            path: Where the video goes; the suffix (``.mp4``, ``.avi``, ``.mkv``) chooses the container.
            fps: Frames a second.
            crf: x264's constant rate factor: 0 lossless, 18 no visible loss, 23 the encoder's own default.
            preset: x264's preset, speed against size.

        Raises:
            DatasetError: The folder cannot be written to, or the suffix names no container.
        """
        self.path = Path(path)
        self._temporary = self.path.with_name(f".{self.path.stem}.part{os.getpid()}{self.path.suffix}")
        self._rate = Fraction(fps).limit_denominator(65535)
        options = {"movflags": "+faststart"} if self.path.suffix.lower() in {".mp4", ".mov", ".m4v"} else {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container: Any = av.open(str(self._temporary), "w", options=options)
        except (av.FFmpegError, OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            raise DatasetError(
                f"The video {self.path} cannot be written ({getattr(error, 'strerror', None) or error}); choose a folder that"
                " can be written to and a name that ends in .mp4, .avi or .mkv."
            ) from error
        self._crf, self._preset = crf, preset
        self._stream: Any = None
        self._size: Size | None = None
        self._count = 0

    def __len__(self) -> int:
        """Number of frames written so far."""
        return self._count

    def write(self, image: Image) -> None:
        """Add a frame.

        Args:
            image: uint8 (H, W, 3) RGB, or (H, W) gray, of the first frame's size.

        Raises:
            ValueError: The frame's shape or type is not the first one's.
            DatasetError: The disk is full.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"a frame is uint8 (H, W, 3) or (H, W), not {image.dtype} {image.shape}")
        if self._stream is None:
            self._size = (image.shape[0], image.shape[1])
            self._stream = self._add_stream(self._size)
        if image.shape[:2] != self._size:
            raise ValueError(f"frame {self._count} has (height, width) {image.shape[:2]} and the first one had {self._size}")
        pad = [(0, image.shape[0] % 2), (0, image.shape[1] % 2)] + [(0, 0)] * (image.ndim - 2)
        if pad[0][1] or pad[1][1]:
            image = np.pad(image, pad, mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24" if image.ndim == 3 else "gray")
        frame.pts = self._count
        frame.time_base = 1 / self._rate
        with self._leaving_nothing():
            self._container.mux(self._stream.encode(frame))
        self._count += 1

    def close(self) -> None:
        """Finish the file and give it its name; without any frame there is no file.

        Raises:
            DatasetError: The disk is full; nothing is left behind.
        """
        if self._stream is None:
            self.abort()
            return
        with self._leaving_nothing():
            self._container.mux(self._stream.encode())
            self._container.close()
            os.replace(self._temporary, self.path)

    def abort(self) -> None:
        """Leave nothing behind. May be called twice."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            pass  # an unfinished container may refuse its trailer; the file goes anyway
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _leaving_nothing(self) -> Iterator[None]:
        """Remove the file when the block fails; a failure to write is a DatasetError."""
        try:
            yield
        except BaseException as error:
            self.abort()
            if isinstance(error, (av.FFmpegError, OSError)):
                raise DatasetError(
                    f"Writing the video {self.path} failed ({getattr(error, 'strerror', None) or error}); make room on the"
                    " disk, or choose another folder."
                ) from error
            raise

    def _add_stream(self, size: Size) -> Any:
        avi = self.path.suffix.lower() == ".avi"
        here = [name for name in _ENCODERS if name in av.codec.codecs_available]
        name = next(name for name in here if not (avi and name == "libvpx-vp9"))
        options = {"crf": str(self._crf), "preset": self._preset} if name == "libx264" else {}
        if avi:
            options["bf"] = "0"  # AVI has no place for the display order of B-frames
        stream: Any = self._container.add_stream(name, rate=self._rate, options=options)
        stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = "yuv420p"
        for key, value in _BT601_LIMITED.items():
            setattr(stream.codec_context, key, value)
        if name != "libx264":
            stream.bit_rate = int(0.15 * size[0] * size[1] * float(self._rate))
        return stream


class Film:
    """Frames on their way into a video whose size is the first one's; every frame has its place, so that times agree.

    Attributes:
        changed: A sentence about the first frame of another size; None while all are equal.
    """

    def __init__(self, writer: VideoWriter) -> None:
        self._writer = writer
        self._size: Size | None = None
        self.changed: str | None = None

    def add(self, image: Image) -> None:
        """Write a frame, uint8 (H, W, 3), RGB; it is stretched where its size is another."""
        height, width = self._size = self._size or (image.shape[0], image.shape[1])
        if image.shape[:2] != self._size:
            self.changed = self.changed or (
                f"Image {len(self._writer)} has {image.shape[1]}x{image.shape[0]} px and the first one {width}x{height}; the"
                " video shows such images stretched."
            )
            image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
        self._writer.write(image)
