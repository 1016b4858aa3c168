from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.deeplabcut import open_deeplabcut
from csl_tracker.datasets.sample import Sequence
from csl_tracker.errors import DatasetError

HEADER = "scorer,me,me,me,me\nbodyparts,tip,tip,shaft,shaft\ncoords,x,y,x,y\n"


def write_image(path: Path, value: int = 90, size: tuple[int, int] = (40, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``labeled-data/video1`` of a project, with three frames."""
    folder = tmp_path / "labeled-data" / "video1"
    for number in (1, 2, 10):
        write_image(folder / f"img{number}.png", number)
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,x,y\n1,2,3\n", "holds no labels of DeepLabCut"),
        ("scorer,me,me\ncoords,x,y\na,1,2\n", "must begin with scorer, bodyparts, coords"),
        ("scorer,me,me\nbodyparts,tip\ncoords,x,y\n", "The header of .*labels.csv does not match"),
        ("scorer,me,me\nbodyparts,tip,tip\ncoords,x,z\n", "The header .* does not match"),
        ("scorer,me,me\nbodyparts,tip,tip\ncoords,x,x\n", "two columns for one coordinate"),
        (HEADER, "a header and no rows"),
        (HEADER + "img1.png,1,2,3,4\nimg2.png,1,2,3\n", r"Line 5 of .*labels.csv has 4 cells and its header 5"),
        (HEADER + "img1.png,1,2,3,4\nimg2.png,1,2,abc,4\n", r"Line 5 of .*labels.csv has the cell 'abc'"),
        (HEADER + "img1.png,1,2,,4\n", "Line 4 of .* has x without y, or y without x, for shaft"),
        (HEADER + "img1.png,1,2,inf,4\n", "Line 4 .* 'inf'"),
        (HEADER + "img7.png,1,2,3,4\n", r"The image 'img7.png' of line 4 of .*labels.csv is neither beside it"),
        (HEADER + "img1.png,1,2,3,4\nimg1.png,1,2,3,4\n", r"img1.png is labelled twice"),
        (HEADER + "17,1,2,3,4\n", "The image '17' of line 4"),
    ],
)
def test_one_sentence_for_a_broken_file(folder: Path, text: str, message: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        open_deeplabcut(folder if "holds no" in message else folder / "labels.csv")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no labels of DeepLabCut: looked for CSV files"):
        open_deeplabcut(tmp_path / "nowhere")


@pytest.mark.parametrize("where", ["", "labeled-data", "labeled-data/video1", "labeled-data/video1/CollectedData_me.csv"])
@pytest.mark.parametrize(
    ("prefix", "commas"),
    [("labeled-data/video1/", ""), ("labeled-data\\video1\\", ""), ("", ""), ("labeled-data,video1,", ",,")],
    ids=["path", "path of windows", "name", "three columns"],
)
def test_project(tmp_path: Path, folder: Path, where: str, prefix: str, commas: str) -> None:
    header = HEADER.replace("scorer", f"scorer{commas}").replace("parts", f"parts{commas}").replace("coords", f"coords{commas}")
    rows = f"{prefix}img10.png,1,2,3.5,4\n{prefix}img2.png,,,3,4\n"
    (folder / "CollectedData_me.csv").write_text("\ufeff" + header + rows, encoding="utf-8")
    [sequence] = open_deeplabcut(tmp_path / where)
    assert isinstance(sequence, Sequence)
    assert (sequence.name, sequence.landmarks, sequence.classes) == ("video1", ("tip", "shaft"), ("background",))
    assert (sequence.slots, sequence.size, len(sequence)) == (("instrument",), (40, 60), 2)
    first, second = sequence
    assert [int(sample.image[0, 0, 0]) for sample in (first, second)] == [2, 10]  # natural order
    assert first.label_map is None
    assert first.labelled.tolist() == [[False, True]]
    np.testing.assert_array_equal(first.landmarks, [[[np.nan, np.nan], [3, 4]]])
    np.testing.assert_array_equal(second.landmarks, [[[1, 2], [3.5, 4]]])


def test_individuals_are_instruments(folder: Path) -> None:
    (folder / "labels.csv").write_text(
        "scorer,me,me,me,me,me,me\n"
        "individuals,left,left,left,left,right,right\n"
        "bodyparts,tip,tip,shaft,shaft,tip,tip\n"
        "coords,x,y,x,y,x,y\n"
        "img1.png,1,2,,,5,6\n"
        "img2.png,,,,,,\n"
    )
    [sequence] = open_deeplabcut(folder)
    assert sequence.slots == ("left", "right")
    first, second = sequence
    np.testing.assert_array_equal(first.landmarks[:, 0], [[1, 2], [5, 6]])
    # Nobody labelled the left shaft; the right instrument has no shaft at all.
    assert first.labelled.tolist() == [[True, False], [True, True]]
    assert not second.labelled.any()


def test_points_of_low_likelihood_are_not_labels(folder: Path) -> None:
    (folder / "labels.csv").write_text(
        "scorer,net,net,net,net,net,net\nbodyparts,tip,tip,tip,shaft,shaft,shaft\ncoords,x,y,likelihood,x,y,likelihood\n"
        "0,1,2,0.59,3,4,0.6\n2,1,2,0.99,3,4,0.1\n"
    )
    [sequence] = open_deeplabcut(folder)
    first, second = sequence
    assert [int(sample.image[0, 0, 0]) for sample in (first, second)] == [1, 10]  # rows 0 and 2 of the folder
    assert [sample.labelled.tolist() for sample in (first, second)] == [[[False, True]], [[True, False]]]


def test_one_file_for_many_folders(tmp_path: Path, folder: Path) -> None:
    write_image(tmp_path / "labeled-data" / "video2" / "img1.png", 50, (30, 30))
    (tmp_path / "CollectedData.csv").write_text(
        HEADER + "labeled-data/video2/img1.png,1,2,3,4\nlabeled-data/video1/img1.png,1,2,3,4\n"
    )
    assert [sequence.size for sequence in open_deeplabcut(tmp_path)] == [(40, 60), (30, 30)]
    assert [sequence.name for sequence in open_deeplabcut(tmp_path, ["video2"])] == ["video2"]
    with pytest.raises(DatasetError, match="no sequence 'video3'; it has video1, video2"):
        open_deeplabcut(tmp_path, ["video3"])


def test_points_outside_and_images_of_another_size(folder: Path) -> None:
    write_image(folder / "img2.png", size=(40, 50))
    (folder / "labels.csv").write_text(HEADER + "img1.png,60,2,3,4\nimg2.png,1,2,3,4\n")
    [sequence] = open_deeplabcut(folder)
    [note] = sequence.notes
    assert note.startswith("1 landmark(s) lie outside their image of 60x40 px")
    with pytest.raises(DatasetError, match=r"img2\.png has 50x40 px and img1\.png has 60x40"):
        list(sequence)


MACHINE = "scorer,n,n,n\nbodyparts,tip,tip,tip\ncoords,x,y,likelihood\n"
HAND = "scorer,me,me\nbodyparts,tip,tip\ncoords,x,y\n"


def at(sequence: Sequence) -> list[tuple[float, float]]:
    return [tuple(sample.landmarks[0, 0].tolist()) for sample in sequence]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"labeled-data/video1/CollectedData_me.csv": HAND + "img1.png,1,2\nimg2.png,3,4\n"}, [(1, 2), (3, 4)]),
        (
            {
                "labeled-data/video1/CollectedData_me.csv": HAND + "img1.png,1,2\nimg2.png,3,4\n",
                "labeled-data/video1/machinelabels-iter0.csv": MACHINE + "img2.png,9,9,0.99\nimg10.png,9,9,0.99\n",
                "training-datasets/iteration-0/Unaugmented/CollectedData_me.csv": HAND + "labeled-data/video1/img1.png,1,2\n",
                "videos/video1DLC_resnet50.csv": MACHINE + "0,5,5,0.9\n1,5,5,0.9\n",
                "evaluation-results/iteration-0/x.csv": MACHINE + "labeled-data/video1/img1.png,7,7,0.9\n",
            },
            [(1, 2), (3, 4)],
        ),
        ({"labeled-data/video1/machinelabels-iter0.csv": MACHINE + "img2.png,9,8,0.99\n"}, [(9, 8)]),
        (
            {
                "labeled-data/video1/CollectedData_me.csv": HAND + "img1.png,1,2\n",
                "labeled-data/video1/CollectedData_me (1).csv": HAND + "img1.png,1,2\n",
            },
            [(1, 2)],
        ),
        ({"labeled-data/video1/CollectedData_me.csv": HAND + "img1.png,1,2\ngone.png,,\n"}, [(1, 2)]),
    ],
    ids=["labelled", "refined, trained and predicted", "machine labels alone", "a copy of the file", "a deleted frame"],
)
def test_projects_as_they_are(tmp_path: Path, folder: Path, files: dict[str, str], expected: list[tuple[float, float]]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    [sequence] = open_deeplabcut(tmp_path)
    assert (sequence.name, at(sequence)) == ("video1", expected)
    left_out = [note for note in sequence.notes if "left out" in note]
    assert bool(left_out) == ("gone.png" in "".join(files.values()) or len(files) > 2)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.csv": HAND + "img1.png,1,2\ngone.png,1,2\nlost.png,1,2\n"}, "'gone.png' of line 5 of .* nor are 1 others; put"),
        (
            {"a.csv": HAND + "img1.png,1,2\n", "b.csv": HAND + "img1.png,1,3\n"},
            "img1.png is labelled twice, in .*a.csv and .*b.csv",
        ),
    ],
)
def test_labels_that_contradict_are_named(folder: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).resolve().write_text(text)
    with pytest.raises(DatasetError, match=said):
        open_deeplabcut(folder.parent.parent)


def test_a_prediction_of_a_video_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(MACHINE + "0,1,2,0.9\n1,1,2,0.9\n")
    for place in (tmp_path, tmp_path / "v.csv"):
        with pytest.raises(DatasetError, match=r"v.csv is a prediction of a whole video and no label; give the project"):
            open_deeplabcut(place)


def test_folders_of_one_name_in_two_projects_are_two_sequences(tmp_path: Path) -> None:
    for project in ("A", "B"):
        folder = tmp_path / project / "labeled-data" / "case7"
        write_image(folder / "img1.png")
        (folder / "CollectedData_me.csv").write_text(HAND + "labeled-data/case7/img1.png,1,2\n")
    assert [s.name for s in open_deeplabcut(tmp_path)] == ["A/labeled-data/case7", "B/labeled-data/case7"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("scorer;me;me\r\nbodyparts;tip;tip\r\ncoords;x;y\r\nimg1.png;50,25;60,5\r\n", "utf-8"),
        ("scorer;me;me\nbodyparts;tip;tip\ncoords;x;y\nimg1.png;50.25;60.5\n", "utf-8-sig"),
        ("scorer\tme\tme\nbodyparts\ttip\ttip\ncoords\tx\ty\nimg1.png\t50,25\t60,5\n", "utf-16"),
        ('sep=;\n"scorer";"me";"me"\n"bodyparts";"tip";"tip"\n"coords";"x";"y"\n"img1.png";"50,25";"60,5"\n', "utf-8"),
        ("scorer,me,me,,\nbodyparts,tip,tip,,\ncoords,x,y,,\nimg1.png,50.25,60.5,,\n", "utf-8"),
        ("scorer,me,me\nbodyparts,tip,tip\ncoords,x,y\nIMG1.PNG,50.25,60.5\nimg2.png,NA,NaN\n", "utf-8"),
    ],
    ids=["semicolons", "semicolons and points", "tabs in UTF-16", "Excel's hint", "separators at the end", "letter case"],
)
def test_files_that_a_spreadsheet_saved_again(folder: Path, text: str, encoding: str) -> None:
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    [sequence] = open_deeplabcut(folder)
    assert at(sequence)[0] == (50.25, 60.5) or sequence.size == (40, 60)
    np.testing.assert_array_equal(sequence.all_labelled[0], [[True]])
    assert open_deeplabcut(folder / "labels.csv")[0].name == "video1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HAND + "img1.png,1_0,2\n", "has the cell '1_0'; write a number"),
        (HAND.replace(",", ";") + "img1.png;1.234,5;2\n", "has the cell '1.234,5'"),
        (HAND.replace("me", "m\xe9"), r"byte 8 is not UTF-8\); save it as CSV in UTF-8"),
        (
            "\n".join(
                ",".join([head, *(f"{name}{k}" if name else "xy"[k % 2] for k in range(6000))])
                for head, name in (("scorer", "s"), ("individuals", "i"), ("bodyparts", "b"), ("coords", ""))
            )
            + "\nimg1.png"
            + ",1" * 6000,
            "has 1 rows of 6000 individuals with 6000 body parts, and 30000000 values are the limit",
        ),
    ],
)
def test_cells_and_sizes_that_are_refused(folder: Path, text: str, said: str) -> None:
    (folder / "labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=said):
        open_deeplabcut(folder / "labels.csv")
