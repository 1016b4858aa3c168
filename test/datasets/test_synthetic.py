import math
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.cli.main import main
from csl_tracker.datasets.registry import open_dataset, select_landmarks
from csl_tracker.datasets.sample import Sequence
from csl_tracker.datasets.synthetic import SyntheticSequence, render_frame
from csl_tracker.datasets.synthetic.instrument import Pose, Shape, parts_and_landmarks, random_look, random_shape
from csl_tracker.datasets.synthetic.layout import write_endovis2015
from csl_tracker.datasets.synthetic.scene import Scene, _mask
from csl_tracker.instruments import ENDOVIS

CENTER, SHAFT, HEAD, LEFT, RIGHT = range(5)


@pytest.mark.parametrize("size", [(256, 320), (288, 360), (64, 96)])
def test_a_seed_gives_one_frame(size: tuple[int, int]) -> None:
    one, again, other = render_frame(7, size), render_frame(7, size), render_frame(8, size)
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.label_map, again.label_map)
    np.testing.assert_array_equal(one.landmarks, again.landmarks)
    assert (one.image != other.image).mean() > 0.5
    assert one.image.shape == (*size, 3)
    assert one.image.dtype == np.uint8


def test_frames_are_varied_and_their_labels_sound() -> None:
    counts, directions, touched = set(), [], set()
    for seed in range(60):
        sample = render_frame(seed, (128, 160))
        assert sample.label_map is not None
        assert set(np.unique(sample.label_map)) <= {0, 1, 2}
        assert sample.labelled.all()
        counts.add(len(sample.landmarks))
        for points in sample.landmarks:
            seen = points[np.isfinite(points).all(axis=1)]
            assert (seen > -0.5).all()
            assert (seen < (159.5, 127.5)).all()
            if np.isfinite(points[[CENTER, SHAFT]]).all():
                directions.append(math.atan2(*(points[SHAFT] - points[CENTER])[::-1]))
        labels = sample.label_map > 0
        touched |= {k for k, edge in enumerate((labels[0], labels[-1], labels[:, 0], labels[:, -1])) if edge.any()}
        if not len(sample.landmarks):
            assert not labels.any()
    assert counts == {0, 1, 2}
    assert touched == {0, 1, 2, 3}, "an instrument reaches every border of the image"
    assert np.std(np.cos(directions)) > 0.5


@pytest.mark.parametrize("seed", range(20))
def test_landmarks_lie_on_their_parts(seed: int) -> None:
    """Alone in the image: center and shaft on the axis of the shaft, head in the manipulator, left to the left of right."""
    rng = np.random.default_rng(seed)
    shape, look = random_shape(rng), random_look(rng)
    pose = Pose(160.0, 128.0, rng.uniform(-math.pi, math.pi), rng.normal(0, 0.3), 0.0, rng.uniform(0.1, 0.8), 30.0, 1.0)
    parts, points = parts_and_landmarks(shape, look, pose)
    labels = np.zeros((256, 320), np.uint8)
    for part in parts:
        labels[_mask(part.outline, labels.shape) > 127] = part.label
    direction = np.array([math.cos(pose.angle), math.sin(pose.angle)])
    np.testing.assert_allclose(points[SHAFT], (160.0, 128.0))
    np.testing.assert_allclose(points[SHAFT] - points[CENTER], shape.sleeve * pose.width * direction)
    middle = 0.5 * (points[CENTER] + points[SHAFT])
    assert labels[round(middle[1]), round(middle[0])] == 1
    assert labels[round(points[HEAD][1]), round(points[HEAD][0])] == 2
    axis = np.array([math.cos(pose.angle + pose.bend), math.sin(pose.angle + pose.bend)])
    left, right = points[LEFT] - points[HEAD], points[RIGHT] - points[HEAD]
    cross = [axis[0] * v[1] - axis[1] * v[0] for v in (left, right)]
    assert cross[0] < cross[1], "seen from the shaft, with y down, left has the smaller cross product"


@pytest.mark.parametrize("width", [8.0, 21.3, 60.0])
@pytest.mark.parametrize("where", [(100.0, 90.0), (100.5, 90.25), (99.1, 91.7)])
def test_outlines_are_drawn_where_they_are(width: float, where: tuple[float, float]) -> None:
    """The centroid of a drawn square, whose middle is known: integer coordinates are pixel centres."""
    turn = np.array([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    corners = np.array(where) + 0.5 * width * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) @ turn
    mask = _mask(corners, (200, 220)).astype(np.float64)
    rows, columns = np.mgrid[:200, :220]
    centroid = ((mask * columns).sum() / mask.sum(), (mask * rows).sum() / mask.sum())
    assert math.dist(centroid, where) < 0.1


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_motion_is_smooth(seed: int) -> None:
    scene = Scene(seed, (256, 320), tools=1, sides=("left",))
    before = None
    for frame in range(100):
        pose = scene.poses(frame / 25)[0]
        now = np.array([pose.x, pose.y])
        if before is not None:
            assert np.linalg.norm(now - before) < 0.04 * 320
        before = now


def test_a_sequence_is_a_sequence_and_repeats_itself() -> None:
    sequence = SyntheticSequence(3, 4, (96, 128))
    assert isinstance(sequence, Sequence)
    assert sequence.slots == ("left", "right")
    first, again = list(sequence), list(sequence)
    assert len(first) == len(sequence) == 4
    assert [sample.stamp_ns for sample in first] == [0, 40_000_000, 80_000_000, 120_000_000]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    assert (first[0].image != first[3].image).any()


@pytest.mark.parametrize("count", [1, 2])
def test_the_written_layout_reads_back(tmp_path: Path, count: int) -> None:
    """What the EndoVis 2015 loader reads is what was rendered: landmarks to the rounding of the files, labels exactly."""
    sequence = SyntheticSequence(12, 5, (144, 176), name="Dataset7", instruments=count)
    folder = write_endovis2015(sequence, tmp_path)
    assert folder == tmp_path / "Dataset7"
    (read,) = open_dataset("endovis2015", tmp_path)
    assert read.slots == sequence.slots
    chosen = select_landmarks(read, ENDOVIS)
    assert len(chosen) == 5
    for expected, found in zip(sequence, chosen, strict=True):
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=0.006)
        np.testing.assert_array_equal(found.labelled, expected.labelled)
        assert (found.label_map != expected.label_map).mean() < 0.002
        assert np.abs(found.image.astype(int) - expected.image).mean() < 6


def test_an_interrupted_sequence_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_endovis2015(SyntheticSequence(1, 5, (64, 96)), tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "big"], "no HxW"),
        (["--size", "101x200"], "even numbers"),
        (["--frames", "0"], "--frames is 0"),
        (["--sequences", "-1"], "--sequences is -1"),
        (["--seed", "-5"], "--seed is -5"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["synthesize", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "out"
    assert main(["synthesize", str(target), "--frames", "1", "--sequences", "1", "--size", "64x96"]) == 2
    assert f"{target} cannot be written to" in capsys.readouterr().err


def test_the_command_keeps_what_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["synthesize", str(tmp_path), "--frames", "2", "--size", "64x96", "--sequences"]
    assert main([*arguments, "1"]) == 0
    video = (tmp_path / "Dataset1" / "Video.avi").stat()
    assert main([*arguments, "2"]) == 0
    assert "kept" in capsys.readouterr().out
    assert (tmp_path / "Dataset1" / "Video.avi").stat().st_mtime_ns == video.st_mtime_ns
    assert [s.name for s in open_dataset("synthetic", tmp_path)] == ["Dataset1", "Dataset2"]


def test_shapes_are_in_proportion() -> None:
    shape = random_shape(np.random.default_rng(0))
    assert isinstance(shape, Shape)
    assert 0.3 < shape.sleeve < 1.3


def test_clutter_changes_the_tissue_and_nothing_else() -> None:
    """Bands, gauze, threads and tubes lie below the instruments: the labels stay what they are."""
    changed = 0
    for seed in range(12):
        plain, cluttered, again = (render_frame(seed, (128, 160), clutter) for clutter in (0.0, 1.0, 1.0))
        np.testing.assert_array_equal(plain.label_map, cluttered.label_map)
        np.testing.assert_array_equal(plain.landmarks, cluttered.landmarks)
        np.testing.assert_array_equal(cluttered.image, again.image)
        assert plain.label_map is not None
        different = np.abs(plain.image.astype(int) - cluttered.image).max(axis=-1) > 12
        changed += different[plain.label_map == 0].mean() > 0.01
    assert changed >= 10
    assert 0 < sum((render_frame(s, (64, 80)).image != render_frame(s, (64, 80), 0.5).image).any() for s in range(20)) < 20
