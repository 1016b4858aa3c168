"""Videos as recorders leave them, each a real file of a fraction of a second."""

from __future__ import annotations

import enum
import shutil
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from csl_tracker import video_file
from csl_tracker.errors import DatasetError
from csl_tracker.image_files import MAX_PIXELS
from csl_tracker.video import VideoReader, VideoWriter

HEIGHT, WIDTH = 48, 64
NS = 1_000_000_000


def picture(index: int) -> np.ndarray:
    """Red at the top left, blue at the top right, and grey that tells the number of the frame."""
    image = np.full((HEIGHT, WIDTH, 3), 30 + 7 * index, np.uint8)
    image[:16, :24] = (220, 40, 40)
    image[:16, 40:] = (40, 40, 220)
    return image


def number(image: np.ndarray) -> int:
    return round((float(np.median(image[-12:, :, 1])) - 30) / 7)


def encode(
    path: Path,
    times: Sequence[Fraction],
    codec: str = "libx264",
    gop: int = 10,
    base: Fraction = Fraction(1, 90_000),
    **options: str,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "12", **options})
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 10
        stream.time_base = stream.codec_context.time_base = base
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def even(count: int) -> list[Fraction]:
    return [Fraction(index, 25) for index in range(count)]


def without_the_first(source: Path, target: Path, packets: int) -> Path:
    """As a recorder that joins a running stream between two key frames."""
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for index, packet in enumerate(given.demux(video=0)):
            if packet.size and index >= packets:
                packet.stream = stream
                container.mux(packet)
    return target


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("plain") / "plain.mp4", even(5))


@pytest.mark.parametrize(
    "name",
    ["2026-05-01T10:22:33.mp4", "http:x.mp4", "concat:a.mp4", "file:x.mp4", "-x.mp4", "a %03d.mp4", "Übung 1.mp4", "a.mp4?b#c"],
)
def test_a_name_is_a_path_whatever_is_in_it(tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shutil.copy(plain, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(VideoReader(name))) == 5
    with VideoWriter(f"out:{name}/x.mp4", 25) as writer:
        writer.write(picture(0))
    assert len(VideoReader(Path(f"out:{name}") / "x.mp4")) == 1


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{}'\n"],
    ids=["hls", "concat"],
)
def test_a_playlist_opens_no_other_file(tmp_path: Path, plain: Path, text: str) -> None:
    (tmp_path / "list.mp4").write_text(text.format(plain))
    with pytest.raises(DatasetError, match=r"list\.mp4 cannot be opened as a video"):
        VideoReader(tmp_path / "list.mp4")


def test_an_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(3)[..., ::-1])
    (found,) = VideoReader(tmp_path / "a.png")
    np.testing.assert_array_equal(found, picture(3))


ONE = 0x10000
TURNS = {  # what the display matrix a, b, c, d (x' = a x + c y, y' = b x + d y) makes of a picture
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),
    (-1, 0, 0, -1): lambda image: np.rot90(image, 2),
    (0, -1, 1, 0): lambda image: np.rot90(image),
    (-1, 0, 0, 1): lambda image: image[:, ::-1],
    (1, 0, 0, -1): lambda image: image[::-1],
    (0, 1, 1, 0): lambda image: image.swapaxes(0, 1),
    (0, -1, -1, 0): lambda image: np.rot90(image, 2).swapaxes(0, 1),
    (1, 0, 0, 1): lambda image: image,
}


def turned(source: Path, target: Path, matrix: tuple[float, float, float, float]) -> Path:
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    a, b, c, d = (round(value * ONE) for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("matrix", TURNS)
@pytest.mark.parametrize("gray", [False, True])
def test_frames_are_turned_as_the_container_says(
    tmp_path: Path, plain: Path, matrix: tuple[int, int, int, int], gray: bool
) -> None:
    reader = VideoReader(turned(plain, tmp_path / "a.mp4", matrix), gray=gray)
    frames = list(reader)
    for found, stored in zip(frames, VideoReader(plain, gray=gray), strict=True):
        assert found.flags.c_contiguous
        assert found.shape[:2] == reader.size
        np.testing.assert_array_equal(found, TURNS[matrix](stored))


def test_another_angle_is_said_and_left(tmp_path: Path, plain: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = list(VideoReader(turned(plain, tmp_path / "a.mp4", (0.7, 0.7, -0.7, 0.7))))
    np.testing.assert_array_equal(found, list(VideoReader(plain)))
    assert "not a multiple of 90 degrees" in caplog.text


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "bframes=0:scenecut=0"}),
        ("libx264", {"x264-params": "open-gop=1:bframes=3:scenecut=0"}),
        ("libx265", {"x265-params": "open-gop=1:bframes=3:scenecut=0:log-level=none"}),
        ("mpeg2video", {"bf": "2", "b": "4000000"}),
    ],
    ids=["h264", "open h264", "open hevc", "mpeg2"],
)
@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_video_begins_with_its_first_key_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, options: dict[str, str], suffix: str
) -> None:
    if codec not in av.codec.codecs_available:
        pytest.skip(f"no encoder {codec}")
    base = Fraction(1, 25) if codec == "mpeg2video" else Fraction(1, 90_000)
    whole = encode(tmp_path / f"whole{suffix}", even(30), codec, base=base, **options)
    path = without_the_first(whole, tmp_path / f"cut{suffix}", 4)
    reader = VideoReader(path)
    frames = list(reader.timed())
    assert len(frames) == len(reader)
    numbers = [number(image) for _, image in frames]
    assert numbers == list(range(30 - len(frames), 30)), "no broken frame, and none left out"
    assert 4 <= numbers[0] <= 11, "an encoder may put a key frame earlier than it was told"
    assert reader.fps == pytest.approx(25, abs=0.1)
    np.testing.assert_allclose([time for time, _ in frames], [index * NS / 25 for index in range(len(frames))], atol=1.1e6)
    assert f"cut{suffix} cannot be shown" in caplog.text
    list(reader)
    assert len(caplog.records) == 1, "said once"


@pytest.mark.parametrize("start", [Fraction(0), Fraction(5, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_times_count_from_the_first_frame(tmp_path: Path, suffix: str, start: Fraction) -> None:
    times = [Fraction(index, 30) for index in range(6)] + [Fraction(1), Fraction(2), Fraction(10)]
    path = encode(tmp_path / f"a{suffix}", [start + time for time in times])
    found = [time for time, _ in VideoReader(path).timed()]
    np.testing.assert_allclose(found, [float(time) * NS for time in times], atol=1.1e6)


def test_two_recordings_in_one_file_are_one_after_the_other(tmp_path: Path) -> None:
    one = encode(tmp_path / "one.ts", even(20)).read_bytes()
    (tmp_path / "two.ts").write_bytes(one + one)
    found = [time for time, _ in VideoReader(tmp_path / "two.ts").timed()]
    assert found == [index * NS // 25 for index in range(40)]


def null_frames(path: Path, count: int, missing: set[int]) -> Path:
    """An AVI in which some frames have no content: the last one is shown again."""
    data = encode(path, even(count), "mjpeg", base=Fraction(1, 25)).read_bytes()
    movi = data.index(b"movi") - 8
    size = struct.unpack_from("<I", data, movi + 4)[0]
    at, body, index = movi + 12, b"movi", b""
    frames = 0
    while at + 8 <= movi + 8 + size:
        tag, length = struct.unpack_from("<4sI", data, at)
        if tag in (b"00dc", b"00db"):
            content = b"" if frames in missing else data[at + 8 : at + 8 + length]
            index += struct.pack("<4sIII", tag, 16 * bool(content), len(body), len(content))
            body += struct.pack("<4sI", tag, len(content)) + content + bytes(len(content) % 2)
            frames += 1
        at += 8 + length + length % 2
    inside = b"AVI " + data[12:movi] + struct.pack("<4sI", b"LIST", len(body)) + body
    inside += struct.pack("<4sI", b"idx1", len(index)) + index
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(inside)) + inside)
    return path


@pytest.mark.parametrize("missing", [{5, 15}, {3, 4, 5}, {19}, set()])
def test_frames_without_content_leave_a_gap(tmp_path: Path, missing: set[int]) -> None:
    reader = VideoReader(null_frames(tmp_path / "a.avi", 20, missing))
    kept = [index for index in range(20) if index not in missing]
    frames = list(reader.timed())
    assert len(reader) == len(frames) == len(kept)
    assert [time for time, _ in frames] == [index * NS // 25 for index in kept]
    assert [number(image) for _, image in frames] == kept


def test_a_cut_off_avi_with_frames_without_content_is_noticed(tmp_path: Path) -> None:
    path = null_frames(tmp_path / "a.avi", 20, {5})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DatasetError, match="ends early: its header promises 20 frames"):
        len(VideoReader(path))


def test_a_video_without_its_index_is_one_sentence(tmp_path: Path, plain: Path) -> None:
    content = plain.read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: content.index(b"moov")])
    with pytest.raises(DatasetError, match=r"a\.mp4 cannot be opened as a video .* it is not a video or is incomplete"):
        VideoReader(tmp_path / "a.mp4")


def test_frames_beyond_the_limit_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path / "a.avi", even(2), "mjpeg", base=Fraction(1, 25)).read_bytes())
    at = -1
    while (at := data.find(b"\xff\xc0", at + 1)) >= 0:
        struct.pack_into(">HH", data, at + 5, 20_000, 20_000)
    struct.pack_into("<ii", data, data.index(b"strf") + 12, 20_000, 20_000)
    (tmp_path / "a.avi").write_bytes(data)
    with pytest.raises(DatasetError, match=rf"more than {MAX_PIXELS // 1_000_000} million"):
        list(VideoReader(tmp_path / "a.avi"))


def test_a_written_video_keeps_the_times_of_its_frames(tmp_path: Path) -> None:
    times = [0, 33_366_667, 66_733_333, NS, 2 * NS]
    for suffix in (".mp4", ".mkv"):
        with VideoWriter(tmp_path / f"a{suffix}", 30) as writer:
            for index, time_ns in enumerate(times):
                writer.write(picture(index), time_ns)
        np.testing.assert_allclose([t for t, _ in VideoReader(tmp_path / f"a{suffix}").timed()], times, atol=0.51e6)
    with VideoWriter(tmp_path / "a.avi", 30) as writer:
        for index, time_ns in enumerate(times):
            writer.write(picture(index), time_ns)
    assert [t for t, _ in VideoReader(tmp_path / "a.avi").timed()] == [round(index * NS / 30) for index in range(5)]


@pytest.mark.parametrize("kind", [enum.Flag, enum.IntFlag])
def test_a_disposition_is_read_in_every_release_of_pyav(kind: type) -> None:
    disposition = kind("Disposition", {"default": 1, "attached_pic": 0x400})
    assert video_file._disposition(SimpleNamespace(disposition=disposition.default | disposition.attached_pic)) == 0x401
    assert video_file._disposition(SimpleNamespace(disposition=disposition(0))) == 0
