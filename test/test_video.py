from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.natural_order import natural_order
from csl_tracker.video import Film, VideoReader, VideoWriter


def frame(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth picture with three different channels, so that a swapped channel or a wrong frame shows."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3, y * 4, np.full_like(x, 10 * index)], axis=-1).clip(0, 255).astype(np.uint8)


def write(path: Path, count: int = 10, **kwargs: int) -> Path:
    with VideoWriter(path, 25, crf=kwargs.pop("crf", 18)) as writer:
        for index in range(count):
            writer.write(frame(index, **kwargs))
    return path


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.mp4 does not exist"):
        VideoReader(tmp_path / "nothing.mp4")


@pytest.mark.parametrize("content", [b"", b"not a video\n" * 100], ids=["empty", "text"])
def test_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "video.avi"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"video\.avi cannot be opened as a video"):
        VideoReader(path)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_truncated_video_is_noticed_before_it_is_decoded(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"video{suffix}", 40, height=240, width=320)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    with pytest.raises(DatasetError, match=r"video\.\w+ ends early: its header promises 40 frames and the file holds \d+"):
        len(VideoReader(path))
    with pytest.raises(DatasetError, match="ends early"):
        next(iter(VideoReader(path)))


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DatasetError, match="holds no image"):
        VideoReader(tmp_path)


def test_folder_with_a_broken_image_and_with_another_size(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a1.png"), frame(0))
    (tmp_path / "a2.png").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"a2\.png cannot be read"):
        list(VideoReader(tmp_path))
    cv2.imwrite(str(tmp_path / "a2.png"), frame(0, height=50))
    with pytest.raises(DatasetError, match=r"a2\.png has 64x50 px and a1\.png has 64x48"):
        list(VideoReader(tmp_path))


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_round_trip_keeps_order_colours_and_count(tmp_path: Path, suffix: str) -> None:
    reader = VideoReader(write(tmp_path / f"video{suffix}", 12))
    assert (len(reader), reader.fps, reader.size) == (12, 25.0, (48, 64))
    for _ in range(2):  # iterating again starts anew
        images = list(reader)
        assert len(images) == 12
        for index, image in enumerate(images):
            assert image.dtype == np.uint8
            assert np.abs(image.astype(int) - frame(index)).mean() < 3


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "vp9"), (".avi", "mpeg4")])
def test_without_h264_browsers_still_get_what_they_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, codec: str
) -> None:
    monkeypatch.setattr("csl_tracker.video._ENCODERS", ("an encoder that is not here", "libvpx-vp9", "mpeg4"))
    path = write(tmp_path / f"video{suffix}")
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == codec
    found = list(VideoReader(path))
    assert len(found) == 10
    assert np.abs(found[4].astype(int) - frame(4)).mean() < 6


@pytest.mark.parametrize(
    ("setting", "suffix", "codec"),
    [("vp9", ".mp4", "vp9"), ("VP9", ".mkv", "vp9"), ("vp9", ".avi", "mpeg4"), ("mpeg4", ".mp4", "mpeg4")],
)
def test_a_setting_keeps_x264_and_x265_out_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, suffix: str, codec: str
) -> None:
    monkeypatch.setenv("CSL_TRACKER_VIDEO_ENCODER", setting)
    path = write(tmp_path / f"video{suffix}")
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == codec
    assert not any(name in path.read_bytes() for name in (b"x264", b"x265"))
    assert len(list(VideoReader(path))) == 10


def test_a_wrong_setting_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSL_TRACKER_VIDEO_ENCODER", "h265")
    with pytest.raises(ConfigError, match="CSL_TRACKER_VIDEO_ENCODER is 'h265'; set it to vp9, mpeg4 or auto"):
        VideoWriter(tmp_path / "video.mp4", 25)
    assert not list(tmp_path.iterdir())


def test_gray_keeps_the_full_range(tmp_path: Path) -> None:
    labels = np.zeros((48, 64), np.uint8)
    labels[10:30, 10:30] = 70
    labels[30:, 32:] = 160
    with VideoWriter(tmp_path / "mask.avi", 25, crf=4) as writer:
        for _ in range(3):
            writer.write(labels)
    for mask in VideoReader(tmp_path / "mask.avi", gray=True):
        assert mask.shape == (48, 64)
        assert np.abs(mask[12:28, 12:28].astype(int) - 70).max() <= 3
        assert np.abs(mask[34:, 36:].astype(int) - 160).max() <= 3
        assert mask[:8].max() <= 3


def test_odd_size_grows_by_a_repeated_edge(tmp_path: Path) -> None:
    reader = VideoReader(write(tmp_path / "odd.mp4", 2, height=47, width=63))
    assert reader.size == (48, 64)
    assert np.abs(next(iter(reader))[:47, :63].astype(int) - frame(0, 47, 63)).mean() < 3


def test_image_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for index in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame{index}.png"), frame(index)[..., ::-1])
    (tmp_path / "._frame1.png").write_bytes(b"resource fork")
    reader = VideoReader(tmp_path)
    assert [p.name for p in reader.files] == ["frame1.png", "frame2.png", "frame10.png"]
    for index, image in zip((1, 2, 10), reader, strict=True):
        np.testing.assert_array_equal(image, frame(index))


def test_natural_order_mixes_names_and_numbers() -> None:
    names = ["b", "10", "9", "a10b2", "a9", "a10b10"]
    assert sorted(names, key=lambda n: natural_order(Path(n))) == ["9", "10", "a9", "a10b2", "a10b10", "b"]


def test_writer_leaves_nothing_when_the_block_raises(tmp_path: Path) -> None:
    def halfway() -> None:
        with VideoWriter(tmp_path / "video.mp4", 25) as writer:
            writer.write(frame(0))
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        halfway()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
@pytest.mark.parametrize(("room", "count"), [(0, 3), (4_000, 3), (4_000, 200)], ids=["no room", "at the end", "on the way"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, full_disk, suffix: str, room: int, count: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)

    def fill() -> None:
        with full_disk(room), VideoWriter(tmp_path / f"video{suffix}", 25) as writer:
            for index in range(count):
                writer.write(np.roll(noise, 7 * index, axis=1))

    with pytest.raises(DatasetError, match=rf"Writing the video .*video\{suffix} failed \(File too large\); make room"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_close_that_fails_keeps_nothing_and_may_be_followed_by_abort(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").mkdir()
    writer = VideoWriter(tmp_path / "video.mp4", 25)
    writer.write(frame(0))
    with pytest.raises(DatasetError, match="Is a directory"):
        writer.close()
    writer.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_writer_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", 3)
    before = path.read_bytes()
    writer = VideoWriter(path, 25)
    writer.write(frame(0))
    assert path.read_bytes() == before
    writer.close()
    assert len(VideoReader(path)) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "image", [np.zeros((48, 64, 4), np.uint8), np.zeros((48, 64), np.float32), np.zeros((40, 64), np.uint8)]
)
def test_writer_refuses_frames_of_another_shape_or_type(tmp_path: Path, image: np.ndarray) -> None:
    writer = VideoWriter(tmp_path / "video.mp4", 25)
    writer.write(frame(0))
    with pytest.raises(ValueError, match="frame"):
        writer.write(image)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_writer_without_frames_leaves_no_file(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "video.mp4", 25).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["video.xyz", "file/video.mp4"])
def test_writer_names_a_path_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written"):
        VideoWriter(tmp_path / name, 25)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_of_uneven_pace_keeps_its_times(tmp_path, suffix):
    milliseconds = [0, 40, 200, 240, 1000]
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "yuv420p", Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time_ms in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert [time_ns for time_ns, _ in VideoReader(tmp_path / f"a{suffix}").timed()] == [ms * 1_000_000 for ms in milliseconds]


def test_the_frames_of_a_timed_video_are_stored_in_the_order_of_their_times(tmp_path):
    """MP4 stores durations in decoding order: with B-frames, browsers show the frame before a pause for too long."""
    times_ms = [0, 40, 80, 120, 1000, 1040, 1080, 1120, 1160]
    with VideoWriter(tmp_path / "a.mp4", 25) as video:
        for index, time_ms in enumerate(times_ms):
            video.write(frame(index), time_ms * 1_000_000)
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        assert [float(packet.pts * packet.time_base) for packet in packets] == pytest.approx([ms / 1000 for ms in times_ms])
        assert [float(packet.duration * packet.time_base) for packet in packets[:-1]] == pytest.approx(
            [(b - a) / 1000 for a, b in itertools.pairwise(times_ms)]
        )


def test_an_avi_has_no_times_of_its_own(tmp_path):
    with VideoWriter(tmp_path / "a.avi", fps=20) as video:
        for index in range(5):
            video.write(np.full((48, 64, 3), 40 * index, np.uint8))
    assert [time_ns for time_ns, _ in VideoReader(tmp_path / "a.avi").timed()] == [50_000_000 * index for index in range(5)]


def test_a_film_has_a_place_for_every_frame_and_says_which_was_stretched(tmp_path):
    shapes = [(48, 64), (36, 64), (48, 64), (24, 32)]
    with VideoWriter(tmp_path / "a.mp4", fps=25) as writer:
        film = Film(writer)
        for value, shape in enumerate(shapes):
            film.add(np.full((*shape, 3), 60 * value, np.uint8), [0, 40, 80, 500][value] * 1_000_000)
    assert film.changed == "Image 1 has 64x36 px and the first one 64x48; the video shows such images stretched."
    frames = list(VideoReader(tmp_path / "a.mp4"))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    np.testing.assert_allclose([frame.mean() for frame in frames], [0, 60, 120, 180], atol=4)
    assert [round(time_ns / 1e6) for time_ns, _ in VideoReader(tmp_path / "a.mp4").timed()] == [0, 40, 80, 500]
