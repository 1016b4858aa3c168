"""``csl-tracker adapt`` on videos that the test writes: stopped, continued, accepted, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")

from csl_tracker.cli.adapt import command_line
from csl_tracker.cli.main import main
from csl_tracker.datasets.coco import open_coco
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.datasets.synthetic.layout import write_endovis2015
from csl_tracker.instruments import RETINAL
from csl_tracker.networks import NetworkConfig
from csl_tracker.tracker import Tracker
from csl_tracker.training.adaptation import gate, plan, pseudo_labels, run
from csl_tracker.training.adaptation.checks import Reason, Verdict
from csl_tracker.training.adaptation.empties import empty_frame
from csl_tracker.training.adaptation.gate import MAX_DICE_LOSS
from csl_tracker.video import VideoWriter
from csl_tracker.weights import default_weights, load_weights, save_weights
from csl_tracker.weights_checks import read_tensor_file

SIZE = (128, 160)
SMALL = ("--frames", "8", "--steps", "2", "--batch-size", "2", "--held-out", "8", "--workers", "0")
CPU = ("--device", "cpu", "--engine", "torch")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's weights at a smaller input size, which is quick."""
    model = load_weights(default_weights())
    preprocessing = replace(model.description.preprocessing, input_size=SIZE)
    description = replace(model.description, preprocessing=preprocessing, confidence_threshold=0.35)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, model.network, description, half=True)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A video of an instrument, two without (tissue, and a board that the weights take for one), and one of few pixels."""
    folder = tmp_path_factory.mktemp("videos")
    with VideoWriter(folder / "tool.mp4", 25, crf=12) as writer:
        for sample in SyntheticSequence(3, 8, SIZE, instruments=1):
            writer.write(sample.image)
    with VideoWriter(folder / "small.mp4", 25) as writer:
        writer.write(np.zeros((48, 96, 3), np.uint8))
    for name, number in (("tissue", 0), ("board", 3)):
        picture = empty_frame(9, number, (SIZE[0] + 16, SIZE[1] + 32))
        with VideoWriter(folder / f"{name}.mp4", 25, crf=12) as writer:
            for shift in range(8):
                writer.write(np.ascontiguousarray(picture[shift:, shift:][: SIZE[0], : SIZE[1]]))
    return {path.stem: path for path in folder.iterdir()}


def words(weights: Path, out: Path, *videos: Path, more: tuple[str, ...] = SMALL) -> list[str]:
    return ["adapt", *map(str, videos), "--weights", str(weights), "--out", str(out), *CPU, *more]


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("csl-tracker: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{tmp}/nowhere.mp4"], "nowhere.mp4 does not exist"),
        (["{tmp}/text.mp4"], "text.mp4 cannot be opened as a video"),
        (["{small}"], "has 96x48 px, too small or too long to compare frames in time; name one of at least 64 px a side"),
        (["{video}", "{video}"], "tool.mp4 is named twice"),
        (["{video}", "--weights", "{retinal}"], "rendered and synthetic frames have those of 'endovis'"),
        (["{video}", "--weights", "{tmp}/none.safetensors"], "none.safetensors"),
        (["{video}", "--bank", "{tmp}/bank"], "bank.json; make a bank with csl-tracker render"),
        (["{video}", "--labels", "endovis2015"], "--labels is 'endovis2015'; write DATASET:ROOT"),
        (["{video}", "--labels", "coco:{tmp}/nothing"], "nothing"),
        (["{video}", "--frames", "3"], "--frames is 3; give 8 or more"),
        (["{video}", "--steps", "0"], "--steps is 0; give 1 or more"),
        (["{video}", "--name", "../me"], "model's name"),
        (["{video}", "--out", "{tmp}"], "exists and is no adaptation; remove it, or give another folder as --out"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    videos: dict[str, Path],
    weights: Path,
    make_weights: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
) -> None:
    (tmp_path / "text.mp4").write_text("mine")
    small = NetworkConfig("unet", encoder="none", decoder="none", width=4, num_landmarks=3, num_classes=2)
    retinal = make_weights(network=small, instruments=RETINAL)
    given = [word.format(tmp=tmp_path, video=videos["tool"], small=videos["small"], retinal=retinal) for word in arguments]
    assert main(words(weights, tmp_path / "out", more=tuple(given))) == 2
    assert text in refusal(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_stopped_continued_and_accepted(
    videos: dict[str, Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_endovis2015(SyntheticSequence(8, 3, (64, 96), name="A"), tmp_path / "labels")
    out = tmp_path / "out"
    command = words(weights, out, videos["tool"], more=(*SMALL, "--labels", f"synthetic:{tmp_path / 'labels'}"))
    judged = []
    judge = pseudo_labels.judge

    def stop_at_the_fourth(*given: Any) -> Verdict:
        if len(judged) == 3:
            raise KeyboardInterrupt
        judged.append(given)
        return judge(*given)

    monkeypatch.setattr(pseudo_labels, "judge", stop_at_the_fourth)
    assert main(command) == 130
    assert [path.name for path in out.iterdir()] == ["adapt.json"]
    monkeypatch.setattr(pseudo_labels, "judge", judge)

    # Two steps hardly move more than the statistics of batch norms, and these weights call 6 % of the empty frames instrument.
    monkeypatch.setattr(gate, "MAX_PIXEL_GAIN", 0.05)
    assert main(command) == 0
    record = json.loads((out / "adapt.json").read_text())
    assert record["refusal"] == ""
    assert record["pseudo_labels"][Reason.KEPT.value] >= 8
    assert record["after"]["dice"] >= record["before"]["dice"] - MAX_DICE_LOSS
    assert [row["frames"] for row in record["labels_before"] + record["labels_after"]] == [3, 3]
    assert str(tmp_path) not in json.dumps(record)

    new, old = load_weights(out / "csl_lite0_adapted.safetensors"), load_weights(weights)
    assert new.description.provenance["adaptation"]["after"] == pytest.approx(record["after"], abs=1e-6)
    assert (new.name, new.description.confidence_threshold) == ("csl_lite0_adapted", 0.35)
    assert new.description.preprocessing == old.description.preprocessing
    assert {tensor.dtype for tensor in read_tensor_file(out / "csl_lite0_adapted.safetensors").tensors.values()} == {"F16"}
    assert any(not torch.equal(a, b) for a, b in zip(new.network.parameters(), old.network.parameters(), strict=True))
    assert not list((out / "train").glob("*.safetensors"))

    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * run.PICTURES
    assert "held-out frames" in page
    assert "synthetic A" in page

    (sequence,) = open_coco(out / "pseudo_labels", None)
    samples = list(sequence)
    assert len(samples) == record["pseudo_labels"][Reason.KEPT.value]
    assert all(sample.labelled[1].all() and np.isnan(sample.landmarks[1]).all() for sample in samples)  # one instrument alone

    capsys.readouterr()
    monkeypatch.setattr(pseudo_labels, "judge", None)  # pseudo-labels and training are not made again
    assert main(command) == 0
    assert main(words(weights, out, videos["tool"], more=(*SMALL, "--steps", "3"))) == 2
    assert "was made with steps 2 and not with 3; give another folder as --out" in refusal(capsys)


@pytest.mark.parametrize("video", ["tissue", "board"])
def test_a_video_without_instruments_teaches_nothing(
    videos: dict[str, Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], video: str
) -> None:
    tracker = Tracker.from_weights(weights, "cpu", "torch")
    label_map = tracker.track(empty_frame(9, 3, (SIZE[0] + 16, SIZE[1] + 32))).label_map
    assert label_map is not None
    assert (label_map > 0).mean() > 0.01, "the board no longer fools the weights"
    assert main(words(weights, tmp_path / "out", videos[video])) == 2
    assert "Only 0 of 8 frames show an instrument that passes the checks and 8 are needed" in refusal(capsys)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"adapt.json", "pseudo_labels.json", "report.html"}
    assert "no weights were written" in (tmp_path / "out" / "report.html").read_text()


def test_the_command_line_names_no_folder() -> None:
    given = ["adapt", "/data/a.mp4", "--labels", "endovis2015:/data/lab/set", "--labels=coco:/data/other", "--out", "x"]
    expected = "csl-tracker adapt a.mp4 --labels endovis2015:set --labels=coco:other --out x"
    assert command_line(given) == expected


def test_labels_that_call_tissue_an_instrument_are_caught_by_the_gate(
    videos: dict[str, Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line of defence: all checks are fooled, and the training is real."""

    def fooled(frame: Any, *_: Any) -> Verdict:
        label_map = np.ones(SIZE, np.uint8)
        points = np.stack([np.linspace(40, 80, 5), np.full(5, 60.0)], axis=1)[None]
        return Verdict(Reason.KEPT, label_map, points, np.ones((1, 5), bool))

    monkeypatch.setattr(pseudo_labels, "judge", fooled)
    monkeypatch.setattr(plan, "LEARNING_RATE", 0.03)
    assert main(words(weights, tmp_path / "out", videos["tissue"], more=(*SMALL, "--steps", "3"))) == 2
    assert "The new weights were not written: the " in refusal(capsys)
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_worse_weights_are_refused_and_the_videos_own_empty_frames_count(
    videos: dict[str, Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def damaged(*_: Any) -> Path:
        model = load_weights(weights)
        head = model.network.score_head
        assert isinstance(head, torch.nn.Conv2d)
        assert head.bias is not None
        with torch.no_grad():
            head.bias[1] += 10.0
        path = out / "train" / "last.safetensors"
        save_weights(path, model.network, model.description)
        return path

    monkeypatch.setattr(run, "_train", damaged)
    command = words(weights, out, videos["tool"], videos["tissue"], more=(*SMALL, "--frames", "16"))
    assert main(command) == 2
    assert "The new weights were not written: the DICE of " in refusal(capsys)
    record = json.loads((out / "adapt.json").read_text())
    assert record["after"]["video_frames"] == 8
    assert record["after"]["video_share"] > record["before"]["video_share"] + 0.001
    assert 1 <= record["pseudo_labels"][Reason.KEPT_EMPTY.value] <= record["pseudo_labels"][Reason.KEPT.value] / 3
    assert not list(out.rglob("*.safetensors"))
    assert "after" in (out / "report.html").read_text()
