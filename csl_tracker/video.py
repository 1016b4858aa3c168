"""Streaming video input and output (RGB) with PyAV; the input may also be a folder of images.

PyAV rather than OpenCV: its errors state a cause, packets can be counted without decoding, and it writes H.264, which all
players and browsers support.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from csl_tracker.arrays import Image
from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.image_files import image_problem
from csl_tracker.natural_order import natural_order
from csl_tracker.output import AtomicOutput
from csl_tracker.pixels import Size
from csl_tracker.text import excerpt
from csl_tracker.video_file import DEFAULT_FPS as DEFAULT_FPS
from csl_tracker.video_file import Contents, VideoFile, av

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".webp"})
_ENCODERS = ("libx264", "libopenh264", "libvpx-vp9", "mpeg4")
"""Encoders in order of preference; browsers play all but the last."""
ENCODER_SETTING = "CSL_TRACKER_VIDEO_ENCODER"
"""Environment variable that excludes GPL encoders (x264, x265): ``vp9`` or ``mpeg4``."""
_WITHOUT_GPL = {"vp9": ("libvpx-vp9", "mpeg4"), "mpeg4": ("mpeg4",)}
_TIMED = Fraction(1, 90_000)
"""Time base for frames with explicit timestamps; common frame intervals are integer multiples of it."""
_BT601_LIMITED = {"colorspace": 6, "color_range": 1}  # FFmpeg's numbers; what swscale does to an untagged frame


def _chosen_encoders() -> tuple[str, ...]:
    """Allowed encoders, best first.

    Raises:
        ConfigError: The environment variable is invalid.
    """
    setting = os.environ.get(ENCODER_SETTING, "").lower()
    if setting in ("", "auto"):
        return _ENCODERS
    if setting not in _WITHOUT_GPL:
        raise ConfigError(f"{ENCODER_SETTING} is '{excerpt(setting, 40)}'; set it to vp9, mpeg4 or auto.")
    return _WITHOUT_GPL[setting]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")  # macOS creates ._frame1.png


def read_image(path: Path, *, gray: bool = False) -> Image:
    """Read an image file.

    Args:
        path: The file.
        gray: Return uint8 (H, W) grayscale.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        DatasetError: The file is missing, broken or not an image.
    """
    try:
        with path.open("rb") as stream:
            problem = image_problem(stream)
    except OSError as error:
        raise DatasetError(f"The image {path} cannot be read ({error.strerror}); replace or remove it.") from error
    if problem is not None:
        raise DatasetError(f"The image {path} cannot be read: {problem.text}; replace or remove it.")
    try:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise DatasetError(f"The image {path} cannot be read; it is broken or no image, replace or remove it.")
    return np.asarray(image if gray else cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class VideoReader:
    """The frames of a video file, or of a folder of images in natural order; can be iterated repeatedly.

    Holds one frame in memory at a time. The constructor reads the header and the first frame. The frame count is checked
    against the header by demuxing without decoding, which detects a truncated copy before processing starts. Frames are
    rotated as the container specifies; frames before the first key frame are skipped with a warning.

    Attributes:
        path: The file or the folder.
        fps: Mean frame rate, 1/s; ``DEFAULT_FPS`` for a folder or a file without a rate.
        size: (height, width) of each frame as displayed, px.
    """

    def __init__(self, path: str | os.PathLike[str], *, gray: bool = False, strict: bool = True) -> None:
        """Open the header.

        Args:
            path: A video file, a folder of images of equal size, or one image.
            gray: Yield uint8 (H, W) luma (full range, 0..255) rather than RGB.
            strict: Raise an error if fewer frames can be decoded than the video has; otherwise end the iteration there.

        Raises:
            DatasetError: The path is missing, not a video, or has no image.
        """
        self.path = Path(path)
        self._gray = gray
        self._strict = strict
        self._images: list[Path] = []
        self._length: int | None = None
        self._file: VideoFile | None = None
        self._contents: Contents | None = None
        single = self.path.suffix.lower() in IMAGE_SUFFIXES and self.path.is_file()
        if self.path.is_dir() or single:
            self._images = [self.path] if single else sorted(filter(_is_image, self.path.iterdir()), key=natural_order)
            if not self._images:
                raise DatasetError(
                    f"The folder {self.path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}); name a video file or a"
                    " folder whose images are the frames."
                )
            self.fps = DEFAULT_FPS
            self.size: Size = read_image(self._images[0], gray=self._gray).shape[:2]
            self._length = len(self._images)
            return
        self._file = VideoFile(self.path)
        self.fps, self.size = self._file.fps, self._file.size

    @property
    def files(self) -> tuple[Path, ...]:
        """All input files, in frame order."""
        return tuple(self._images) if self._images else (self.path,)

    def __len__(self) -> int:
        """Number of frames.

        Raises:
            DatasetError: The file is truncated: it has fewer frames than its header states.
        """
        if self._length is None:
            self._length = self._packets(self._file).shown
        return self._length

    def __iter__(self) -> Iterator[Image]:
        """Yield uint8 (H, W, 3) RGB frames, or (H, W) with ``gray``.

        Raises:
            DatasetError: A frame cannot be decoded, is missing, or has another size.
        """
        return (image for _, image in self.timed())

    def timed(self) -> Iterator[tuple[int, Image]]:
        """Yield (time since the first frame in ns, frame); the times are those of the file and may be unevenly spaced.

        Raises:
            DatasetError: See :meth:`__iter__`.
        """
        if self._file is None:
            return ((round(index * 1e9 / self.fps), image) for index, image in enumerate(self._iterate_images()))
        return self._file.frames(self._packets(self._file), self._strict, self._gray)

    def _packets(self, file: VideoFile | None) -> Contents:
        assert file is not None  # the length of a folder is known
        if self._contents is None:
            self._contents = file.contents()
        return self._contents

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
    """Writes frames as an H.264 video (yuv420p), atomically.

    An odd width or height is padded by repeating the last column or row, since yuv420p requires even sizes.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, *, crf: int = 18, preset: str = "veryfast") -> None:
        """Open the file; the first frame determines the video size.

        Args:
            path: The video file; the suffix (``.mp4``, ``.avi``, ``.mkv``) selects the container.
            fps: Frame rate, 1/s.
            crf: x264's constant rate factor: 0 lossless, 18 no visible loss, 23 encoder default.
            preset: x264's preset, speed against size.

        Raises:
            DatasetError: The folder is not writable, or the suffix is unknown.
            ConfigError: :data:`ENCODER_SETTING` is invalid.
        """
        self.path = Path(path)
        _chosen_encoders()  # report a wrong setting before writing anything
        self._temporary = self.path.with_name(f".{self.path.stem}.part{os.getpid()}{self.path.suffix}")
        self._rate = Fraction(fps).limit_denominator(65535)
        options = {"movflags": "+faststart"} if self.path.suffix.lower() in {".mp4", ".mov", ".m4v"} else {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container: Any = av.open(f"file:{self._temporary}", "w", options=options)  # the path may contain a colon
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
        self._count, self._last = 0, -1
        self._timed = False

    def __len__(self) -> int:
        """Number of frames written so far."""
        return self._count

    def write(self, image: Image, time_ns: int | None = None) -> None:
        """Add a frame.

        Args:
            image: uint8 (H, W, 3) RGB, or (H, W) gray, of the first frame's size.
            time_ns: Time since the first frame, ns; None for constant frame rate. The first frame determines the mode for
                all; AVI does not support timestamps and always has a constant rate.

        Raises:
            ValueError: Shape or type differ from those of the first frame.
            DatasetError: The disk is full.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"a frame is uint8 (H, W, 3) or (H, W), not {image.dtype} {image.shape}")
        if self._stream is None:
            self._size = (image.shape[0], image.shape[1])
            self._timed = time_ns is not None and self.path.suffix.lower() != ".avi"
            self._stream = self._add_stream(self._size)
        if image.shape[:2] != self._size:
            raise ValueError(f"frame {self._count} has (height, width) {image.shape[:2]} and the first one had {self._size}")
        pad = [(0, image.shape[0] % 2), (0, image.shape[1] % 2)] + [(0, 0)] * (image.ndim - 2)
        if pad[0][1] or pad[1][1]:
            image = np.pad(image, pad, mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24" if image.ndim == 3 else "gray")
        if self._timed and time_ns is not None:
            self._last = max(round(Fraction(time_ns, 1_000_000_000) / _TIMED), self._last + 1)
            frame.pts, frame.time_base = self._last, _TIMED
        else:
            frame.pts, frame.time_base = self._count, 1 / self._rate
        with self._leaving_nothing():
            self._container.mux(self._stream.encode(frame))
        self._count += 1

    def close(self) -> None:
        """Finish the file and rename it to its final name; without frames, no file is created.

        Raises:
            DatasetError: The disk is full; the temporary file is deleted.
        """
        if self._stream is None:
            self.abort()
            return
        with self._leaving_nothing():
            self._container.mux(self._stream.encode())
            self._container.close()
            os.replace(self._temporary, self.path)

    def abort(self) -> None:
        """Delete the temporary file. May be called twice."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            pass  # writing the trailer may fail; the file is deleted anyway
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _leaving_nothing(self) -> Iterator[None]:
        """Delete the file if the block fails; converts write errors to DatasetError."""
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
        here = [name for name in _chosen_encoders() if name in av.codec.codecs_available]
        name = next(name for name in here if not (avi and name == "libvpx-vp9"))
        options = {"crf": str(self._crf), "preset": self._preset} if name == "libx264" else {}
        if avi or self._timed:
            # AVI cannot store the display order of B-frames. MP4 stores durations in decoding order, so that browsers would
            # show a frame before a pause for too long.
            options["bf"] = "0"
        stream: Any = self._container.add_stream(name, rate=self._rate, options=options)
        stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = "yuv420p"
        if self._timed:
            stream.time_base = stream.codec_context.time_base = _TIMED
        for key, value in _BT601_LIMITED.items():
            setattr(stream.codec_context, key, value)
        if name != "libx264":
            stream.bit_rate = int(0.15 * size[0] * size[1] * float(self._rate))
        return stream


class Film:
    """Writes frames to a video and stretches them to the size of the first frame.

    Attributes:
        changed: A sentence about the first frame of another size; None if all sizes are equal.
    """

    def __init__(self, writer: VideoWriter) -> None:
        self._writer = writer
        self._size: Size | None = None
        self.changed: str | None = None

    def add(self, image: Image, time_ns: int | None = None) -> None:
        """Write a frame.

        Args:
            image: uint8 (H, W, 3), RGB.
            time_ns: See :meth:`VideoWriter.write`.
        """
        height, width = self._size = self._size or (image.shape[0], image.shape[1])
        if image.shape[:2] != self._size:
            self.changed = self.changed or (
                f"Image {len(self._writer)} has {image.shape[1]}x{image.shape[0]} px and the first one {width}x{height}; the"
                " video shows such images stretched."
            )
            image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
        self._writer.write(image, time_ns)
