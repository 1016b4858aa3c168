from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.coco import CocoSequence, open_coco
from csl_tracker.datasets.sample import Sample, Sequence
from csl_tracker.errors import DatasetError

HEIGHT, WIDTH = 40, 60
TOOL = {"id": 1, "name": "tool", "keypoints": ["tip", "shaft"], "skeleton": [[1, 2]]}
SHAFT = {"id": 2, "name": "shaft"}
SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]
"""Rows and columns 10 to 19."""
CVAT_INFO = {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""}


def image(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, **more}


def points(number: int, keypoints: list[float], image_id: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": 1, "keypoints": keypoints, **more}


def area(number: int, segmentation: Any = SQUARE, image_id: int = 1, category_id: int = 2, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category_id, "segmentation": segmentation, **more}


def write(
    root: Path,
    annotations: list[Any],
    images: list[Any] | None = None,
    categories: list[Any] | None = None,
    name: str = "coco.json",
    **more: Any,
) -> Path:
    """A COCO file with one image, unless it is told otherwise; no image files."""
    data = {
        "images": [image(1, "frame1.png")] if images is None else images,
        "annotations": annotations,
        "categories": [TOOL, SHAFT] if categories is None else categories,
        **more,
    }
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return root


def write_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH), value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with three images."""
    for number in (1, 2, 10):
        write_image(tmp_path / "images" / f"frame{number}.png", value=number)
    return tmp_path


def read(root: Path) -> tuple[CocoSequence, list[Sample]]:
    [sequence] = open_coco(root)
    assert isinstance(sequence, Sequence)
    return sequence, list(sequence)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"annotations": [area(7, image_id=99)]},
            r"annotation 7 in .*coco\.json belongs to the image 99, which that file does not",
        ),
        ({"annotations": [area(7, category_id=5)]}, "annotation 7 .* belongs to the category 5"),
        ({"annotations": [area(7), area(7)]}, "two entries of 'annotations' with the id 7"),
        ({"annotations": [], "images": [image(1, "a.png"), image(1, "b.png")]}, "two entries of 'images' with the id 1"),
        ({"annotations": [], "images": [image(1, "frame1.png"), image(2, "frame1.png")]}, "lists the image .*frame1.png twice"),
        ({"annotations": [], "categories": [TOOL, {**SHAFT, "id": 1}]}, "two entries of 'categories' with the id 1"),
        ({"annotations": ["x"]}, "Entry 0 of 'annotations' .* has no id"),
        ({"annotations": [], "images": []}, "lists no images"),
        ({"annotations": [], "images": [{"id": 1}]}, "image 1 .* has no file_name"),
        (
            {"annotations": [], "images": [image(1, "gone.png"), image(2, "lost.png")]},
            "'gone.png' .*, nor are 1 others of its 2",
        ),
        ({"annotations": [], "images": [image(1, "frame1.png", width=-5)]}, "image 1 .* width -5"),
        ({"annotations": [], "images": [image(1, "frame1.png", frame="x")]}, "image 1 .* frame 'x'"),
        ({"annotations": [points(7, [1, 2, 2])]}, "annotation 7 .* has 3 numbers as keypoints and its category 2 keypoints"),
        ({"annotations": [points(7, [1, 2, 2, 3, 4, 5])]}, "annotation 7 .* keypoint shaft .* v 5"),
        ({"annotations": [], "categories": [{**TOOL, "keypoints": ["tip", "tip"]}]}, "category 'tool' .* different names"),
        ({"annotations": [], "info": {"keypoint_origin": "middle"}}, "keypoint_origin 'middle'"),
        (
            {"annotations": [points(n, [1, 2, 2, 3, 4, 2], attributes={"slot": "left"}) for n in (7, 8)]},
            "annotation 7 .* and the annotation 8 .* are both of the instrument left in the image .*frame1.png",
        ),
        (
            {
                "annotations": [points(7, [1, 2, 2, 3, 4, 2], attributes={"slot": "third"})],
                "sequences": [{"name": "images", "slots": ["left"]}],
                "images": [image(1, "frame1.png", sequence="images")],
            },
            "is of the instrument 'third', and the sequence images has left",
        ),
        (
            {"annotations": [], "images": [image(1, "frame1.png"), image(2, "frame2.png", width=50)]},
            "frame2.png has 50x40 px and .*frame1.png 60x40, both in the sequence",
        ),
        (
            {"annotations": [], "images": [image(1, "frame1.png", sequence="a")], "sequences": [{"name": "a", "fps": 0}]},
            "sequence a .* fps 0",
        ),
    ],
)
def test_one_sentence_for_a_broken_file(root: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        open_coco(write(root, **changes))


def test_cut_off_json_names_file_and_line(root: Path) -> None:
    path = write(root, [area(1)]) / "coco.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(DatasetError, match=r"coco\.json is not valid JSON from line 1 on .* cut off"):
        open_coco(path)


def test_folder_without_coco(root: Path) -> None:
    (root / "other.json").write_text("[1, 2]")
    with pytest.raises(DatasetError, match="is not a COCO dataset: looked for"):
        open_coco(root)
    with pytest.raises(DatasetError, match="does not exist"):
        open_coco(root / "nowhere")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"annotations": [area(7, {"size": [60, 40], "counts": [2400]})]}, r"segmentation of annotation 7 .* \[60, 40\]"),
        ({"annotations": [area(7, [[1, 2, 3]])]}, "segmentation of annotation 7 .* polygon of 3 numbers"),
        ({"annotations": [], "images": [image(1, "frame1.png", width=61)]}, "frame1.png has 60x40 px, and .* says 61x40"),
    ],
)
def test_faults_that_show_when_a_frame_is_read(root: Path, changes: dict[str, Any], text: str) -> None:
    [sequence] = open_coco(write(root, **changes))
    with pytest.raises(DatasetError, match=text):
        list(sequence)


def test_broken_image(root: Path) -> None:
    (root / "images" / "frame1.png").write_bytes(b"no image")
    [sequence] = open_coco(write(root, []))
    with pytest.raises(DatasetError, match=r"frame1\.png cannot be read"):
        list(sequence)


def test_keypoints_masks_and_what_nobody_labelled(root: Path) -> None:
    images = [image(1, "frame10.png"), image(2, "frame2.png"), image(3, "frame1.png")]
    annotations = [
        points(1, [12, 13, 2, 30.5, 14, 1], image_id=3),
        area(2, image_id=3),
        points(3, [12, 13, 2, 0, 0, 0], image_id=2, keypoints_absent=[]),
        points(4, [12, 13, 2, 0, 0, 0], image_id=1, keypoints_absent=["shaft"]),
    ]
    sequence, (first, second, third) = read(write(root, annotations, images))
    assert (sequence.landmarks, sequence.classes) == (("tip", "shaft"), ("background", "shaft"))
    assert (sequence.slots, sequence.fps, sequence.size) == (("instrument",), 25.0, (HEIGHT, WIDTH))
    assert sequence.skeleton == (("tip", "shaft"),)
    assert [int(sample.image[0, 0, 0]) for sample in (first, second, third)] == [1, 2, 10]  # natural order
    assert [sample.stamp_ns for sample in (first, second, third)] == [0, 40_000_000, 80_000_000]
    np.testing.assert_array_equal(first.landmarks, [[[12, 13], [30.5, 14]]])
    assert first.labelled.all()
    assert first.label_map is not None
    expected = np.zeros((HEIGHT, WIDTH))
    expected[10:20, 10:20] = 1
    np.testing.assert_array_equal(first.label_map, expected)
    assert second.label_map is None
    assert second.labelled.tolist() == [[True, False]]
    assert third.labelled.tolist() == [[True, True]]
    assert np.isnan(third.landmarks[0, 1]).all()


def test_an_instrument_without_annotation_is_absent_where_somebody_looked(root: Path) -> None:
    images = [image(1, "frame1.png"), image(2, "frame2.png"), image(3, "frame10.png", labelled=True)]
    _, samples = read(write(root, [points(1, [5, 5, 2, 6, 6, 2])], images))
    assert [sample.labelled.tolist() for sample in samples] == [[[True, True]], [[False, False]], [[True, True]]]
    assert not samples[2].visible.any()


def test_masks_alone_say_nothing_of_landmarks(root: Path) -> None:
    _, [sample] = read(write(root, [area(1)]))
    assert not sample.labelled.any()
    assert sample.label_map is not None


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, (12.0, 13.0)),
        ({"description": "COCO 2017 Dataset", "contributor": "COCO Consortium"}, (12.0, 13.0)),
        (CVAT_INFO, (11.5, 12.5)),
        ({**CVAT_INFO, "contributor": "Label Studio", "version": "1.0"}, (11.5, 12.5)),
        ({**CVAT_INFO, "keypoint_origin": "center"}, (12.0, 13.0)),
        ({"keypoint_origin": "corner"}, (11.5, 12.5)),
    ],
    ids=["nothing", "coco", "cvat", "label studio", "stated center", "stated corner"],
)
def test_where_keypoints_have_their_origin(root: Path, info: dict[str, Any], expected: tuple[float, float]) -> None:
    _, [sample] = read(write(root, [points(1, [12, 13, 2, 0, 0, 0])], info=info))
    np.testing.assert_array_equal(sample.landmarks[0, 0], expected)


def test_points_outside_are_noted_and_not_in_view(root: Path) -> None:
    sequence, [sample] = read(write(root, [points(1, [-0.4, 39.4, 2, 60, 3, 2])]))
    assert sample.visible.tolist() == [[True, False]]
    assert sample.labelled.all()
    [note] = sequence.notes
    assert note.startswith("1 landmark(s) lie outside their image of 60x40 px")
    assert "shaft of annotation 1" in note


def test_later_masks_lie_over_earlier_ones_and_ignore_is_255(root: Path) -> None:
    categories = [TOOL, SHAFT, {"id": 3, "name": "ignore"}, {"id": 4, "name": "wrist"}, {"id": 5, "name": "never used"}]
    annotations = [
        area(1),
        area(2, [[15, 10, 25, 10, 25, 20, 15, 20]], category_id=4),
        area(3, {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT, HEIGHT * (WIDTH - 1)]}, category_id=3, iscrowd=1),
    ]
    sequence, [sample] = read(write(root, annotations, categories=categories))
    assert sequence.classes == ("background", "shaft", "wrist")
    assert sample.label_map is not None
    assert sample.label_map[15, [0, 1, 12, 17, 22]].tolist() == [255, 0, 1, 2, 2]


def test_a_category_with_keypoints_can_have_a_mask_itself(root: Path) -> None:
    sequence, [sample] = read(write(root, [points(1, [12, 13, 2, 0, 0, 0], segmentation=SQUARE)], categories=[TOOL]))
    assert sequence.classes == ("background", "tool")
    assert sample.label_map is not None
    assert sample.label_map.sum() == 100


def left_right(**more: Any) -> list[dict[str, Any]]:
    return [{**TOOL, "id": 1, "name": f"Left_{TOOL['name']}", **more}, {**TOOL, "id": 2, "name": "right tool", **more}]


@pytest.mark.parametrize(
    ("items", "categories", "slots", "x"),
    [
        ([(40, {"category_id": 1}), (10, {"category_id": 2})], left_right(), ("left", "right"), [40, 10]),
        ([(40, {"attributes": {"Side": "LEFT"}}), (10, {})], [TOOL], ("left", "right"), [40, 10]),
        ([(40, {"attributes": {"slot": "PSM2"}}), (10, {"attributes": {"slot": "PSM1"}})], [TOOL], ("PSM1", "PSM2"), [10, 40]),
        ([(40, {}), (10, {})], [TOOL], ("left", "right"), [10, 40]),
        ([(40, {})], [TOOL], ("instrument",), [40]),
        ([(40, {}), (10, {}), (20, {})], [TOOL], ("instrument_1", "instrument_2", "instrument_3"), [10, 20, 40]),
    ],
    ids=["category", "attribute and the rest", "other names", "place", "alone", "three"],
)
def test_slots(root: Path, items: list[Any], categories: list[Any], slots: tuple[str, ...], x: list[float]) -> None:
    annotations = [points(n, [x, 5, 2, x, 9, 2]) | more for n, (x, more) in enumerate(items)]
    sequence, [sample] = read(write(root, annotations, categories=categories))
    assert sequence.slots == slots
    assert sample.landmarks[:, 0, 0].tolist() == x


def test_tracks_keep_their_slot_where_places_would_swap(root: Path) -> None:
    images = [image(1, "frame1.png"), image(2, "frame2.png"), image(3, "frame10.png")]
    places = [(1, 10, 50), (2, 20, 45), (3, 41, 39)]
    annotations = [
        points(10 * i + track, [x, 5, 2, x, 9, 2], image_id=i, attributes={"track_id": track})
        for i, *xs in places
        for track, x in enumerate(xs)
    ]
    _, samples = read(write(root, annotations, images))
    assert [sample.landmarks[:, 0, 0].tolist() for sample in samples] == [[10, 50], [20, 45], [41, 39]]


def test_one_of_two_is_known_by_its_half_of_the_image(root: Path) -> None:
    images = [image(1, "frame1.png"), image(2, "frame2.png"), image(3, "frame10.png")]
    annotations = [points(1, [10, 5, 2, 0, 0, 0]), points(2, [40, 5, 2, 0, 0, 0])]
    annotations += [points(3, [29, 5, 2, 0, 0, 0], image_id=2), points(4, [30, 5, 2, 0, 0, 0], image_id=3)]
    _, samples = read(write(root, annotations, images))
    assert [sample.visible[:, 0].tolist() for sample in samples] == [[True, True], [True, False], [False, True]]


def test_label_studio_names_the_slot_in_the_keypoint(root: Path) -> None:
    names = [f"{slot}:{name}" for slot in ("left", "right") for name in ("tip", "shaft")]
    category = {"id": 1, "name": "default", "keypoints": names, "skeleton": []}
    annotation = {"id": 0, "image_id": 0, "category_id": 1, "keypoints": [9, 9, 2, 0, 0, 0, 50, 9, 2, 50, 19, 2]}
    sequence, [sample] = read(write(root, [annotation], [image(0, "images/1a2b3c4d-frame1.png")], [category]))
    assert (sequence.slots, sequence.landmarks) == (("left", "right"), ("tip", "shaft"))
    assert sample.labelled.tolist() == [[True, False], [True, True]]
    np.testing.assert_array_equal(sample.landmarks[1], [[50, 9], [50, 19]])


def test_masks_with_a_slot_make_a_map_of_instances(root: Path) -> None:
    annotations = [
        area(1, attributes={"slot": "left"}),
        area(2, [[30, 0, 40, 0, 40, 9, 30, 9]], attributes={"slot": "right"}),
        area(3, image_id=2, attributes={"slot": "left"}),
        area(4, image_id=2),
    ]
    _, (first, second) = read(write(root, annotations, [image(1, "frame1.png"), image(2, "frame2.png")]))
    assert first.instances is not None
    assert first.instances[[15, 5, 0], [15, 35, 0]].tolist() == [1, 2, 0]
    assert second.instances is None


@pytest.mark.parametrize(
    "name",
    [
        "frame1.png",
        "images/frame1.png",
        "/home/somebody/project/images/frame1.png",
        "C:\\data\\frame1.png",
        "/data/local-files/?d=surgery/frame1.png",
        "../../data/media/upload/3/0123abcd-frame1.png",
    ],
)
@pytest.mark.parametrize("file", ["coco.json", "annotations/person_keypoints_default.json"])
def test_images_are_found_whatever_stands_before_their_names(root: Path, name: str, file: str) -> None:
    _, [sample] = read(write(root, [], [image(1, name)], name=file))
    assert sample.image[0, 0, 0] == 1


def test_sequences_by_key_by_folder_and_by_file(tmp_path: Path) -> None:
    for folder in ("a", "b/c"):
        write_image(tmp_path / "images" / folder / "1.png")
    write_image(tmp_path / "images" / "2.png", (20, 30))
    images = [image(1, "b/c/1.png"), image(2, "a/1.png", sequence="first"), image(3, "2.png", width=30, height=20)]
    write(tmp_path, [], images, name="annotations/instances_train.json")
    assert [sequence.name for sequence in open_coco(tmp_path)] == ["b/c", "first", "train"]
    [sequence] = open_coco(tmp_path, ["train"])
    assert sequence.size == (20, 30)
    with pytest.raises(DatasetError, match="no sequence 'test'; it has b/c, first, train"):
        open_coco(tmp_path, ["test"])


def test_keypoints_and_masks_of_two_exports_are_merged(root: Path) -> None:
    write(
        root,
        [points(1, [12.5, 13.5, 2, 0, 0, 0])],
        categories=[TOOL],
        name="annotations/person_keypoints_default.json",
        info=CVAT_INFO,
    )
    write(
        root,
        [area(1, category_id=1)],
        categories=[{**SHAFT, "id": 1}],
        name="annotations/instances_default.json",
        info=CVAT_INFO,
    )
    _, [sample] = read(root)
    assert sample.landmarks[0, 0].tolist() == [12, 13]
    assert sample.label_map is not None
    assert sample.label_map.sum() == 100


def test_image_without_a_stated_size(root: Path) -> None:
    sequence, _ = read(write(root, [], [{"id": 1, "file_name": "frame1.png"}]))
    assert sequence.size == (HEIGHT, WIDTH)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values in nested lists and objects."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@pytest.mark.parametrize("junk", [None, [], {}, "x", -1, 1.5, True, [[1, 2, 3]], {"a": 1}, 10**30], ids=repr)
def test_whatever_stands_somewhere_is_read_or_told_in_a_sentence(root: Path, junk: Any) -> None:
    """Every value of a file in turn is something else: never anything but a DatasetError."""
    annotations = [
        points(
            1, [12, 13, 2, 0, 0, 0], attributes={"slot": "left", "track_id": 1}, bbox=[1, 2, 3, 4], keypoints_absent=["shaft"]
        ),
        area(2, attributes={"slot": "left"}),
        area(3, {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}),
    ]
    images = [image(1, "frame1.png", sequence="a", frame=3, stamp_ns=5, segmented=True, instances=False)]
    settings = [{"name": "a", "fps": 10, "slots": ["left"], "landmarks": ["tip", "shaft"], "classes": ["background", "shaft"]}]
    path = write(root, annotations, images, info=CVAT_INFO, sequences=settings) / "coco.json"
    original = path.read_text()
    refused = 0
    for place in places(json.loads(original))[1:]:
        data = json.loads(original)
        inner = data
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = junk
        path.write_text(json.dumps(data))
        try:
            for sequence in open_coco(root):
                list(sequence)
        except DatasetError as error:
            refused += str(error).endswith(".")
    assert refused > 5


def floats(value: Any) -> Any:
    """Whole numbers as other tools write them."""
    if isinstance(value, dict):
        return {key: floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [floats(item) for item in value]
    return float(value) if isinstance(value, int) else value


def test_whole_numbers_may_be_written_as_decimals(root: Path) -> None:
    write(root, [points(7, [15, 15, 2, 3, 4, 1]), area(8, {"size": [HEIGHT, WIDTH], "counts": [10, 20, 2370]})])
    plain, [sample] = read(root)
    (root / "coco.json").write_text(json.dumps(floats(json.loads((root / "coco.json").read_text()))))
    decimal, [same] = read(root)
    assert (plain.landmarks, plain.classes, plain.skeleton) == (decimal.landmarks, decimal.classes, decimal.skeleton)
    np.testing.assert_array_equal(sample.landmarks, same.landmarks)
    np.testing.assert_array_equal(sample.label_map, same.label_map)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"annotations": [points(7, [1, 2, 2, 3, 4, 2], image_id=1.5)]}, r"belongs to the image 1.5 \(no whole number\)"),
        ({"annotations": [points(7, [1, 2, 2, 3, 4, 2], image_id="1")]}, r"belongs to the image '1' \(a text, not a number\)"),
        (
            {"annotations": [], "images": [{"id": 1.5, "file_name": "frame1.png"}]},
            "has the id 1.5, which is not a whole number",
        ),
        (
            {"annotations": [], "images": [{"id": True, "file_name": "frame1.png"}]},
            "has the id True, which is not a whole number",
        ),
        ({"annotations": [], "images": [{"id": None, "file_name": "frame1.png"}]}, "Entry 0 of 'images' .* has no id"),
        (
            {"annotations": [], "images": [image(1, "frame1.png", width="60")]},
            "has width '60' and height 40; give whole numbers",
        ),
        ({"annotations": [], "images": [image(1, "frame1.png", width=60.5)]}, "has width 60.5 and height 40"),
        (
            {"annotations": [], "images": [image(1, "frame1.png", width=60_000, height=60_000)]},
            "it has 60000x60000 px, and from",
        ),
        ({"annotations": [points(7, [float("nan"), 2, 1, 3, 4, 2])]}, "tip with x nan, y 2.0 and v 1; x or y is not a number"),
        ({"annotations": [points(7, [None, 2, 2, 3, 4, 2])]}, "x or y is not a number"),
        ({"annotations": [points(7, ["1", 2, 2, 3, 4, 2])]}, "has the text '1' among its keypoints"),
    ],
)
def test_numbers_that_are_none_are_named(root: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        open_coco(write(root, **changes))


@pytest.mark.parametrize("nothing", [float("nan"), None, -1])
def test_a_point_with_v_0_has_no_place(root: Path, nothing: float | None) -> None:
    _, [sample] = read(write(root, [points(7, [15, 15, 2, nothing, nothing, 0])]))
    assert sample.labelled.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("segmentation", "pixels"),
    [([[]], None), ([[5, 5]], None), ([[5, 5, 9, 9]], None), ([5, 5], None), ([*SQUARE, [5, 5]], 100), ([[], *SQUARE], 100)],
)
def test_polygons_without_area_are_left_out(root: Path, segmentation: Any, pixels: int | None) -> None:
    sequence, [sample] = read(write(root, [points(6, [15, 15, 2, 3, 4, 2]), area(7, segmentation)]))
    assert (None if sample.label_map is None else int(sample.label_map.sum())) == pixels
    [note] = sequence.notes
    assert note.startswith("1 polygon(s) of fewer than three vertices have no area and are left out: in the annotation 7 in")


def test_every_folder_with_a_file_is_a_sequence(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_image(tmp_path / name / "images" / "f.png")
        stated = {"sequences": [{"name": "same", "fps": 10 if name == "one" else 20}]}
        write(tmp_path / name, [], [image(1, "images/f.png")], name="annotations.json")
        write(tmp_path / name, [], [image(1, "images/f.png", sequence="same")], name="more.json", **stated)
        write_image(tmp_path / name / "frames" / "clip" / "g.png")
        write(tmp_path / name, [], [image(1, "frames/clip/g.png")], name="third.json")
    found = open_coco(tmp_path)
    assert [sequence.name for sequence in found] == ["one", "one/clip", "two", "two/clip"]


def test_converted_datasets_beside_one_another_keep_their_settings(tmp_path: Path) -> None:
    for name, fps in (("a", 10), ("b", 20)):
        write_image(tmp_path / name / "images" / "f.png")
        stated = [{"name": "Dataset1", "fps": fps}]
        write(tmp_path / name / "annotations", [], [image(1, "f.png", sequence="Dataset1")], sequences=stated)
    assert [(s.name, s.fps) for s in open_coco(tmp_path)] == [("a/Dataset1", 10), ("b/Dataset1", 20)]
    assert [(s.name, s.fps) for s in open_coco(tmp_path / "a")] == [("Dataset1", 10)]


def test_files_of_other_systems_do_not_matter(root: Path) -> None:
    write(root, [points(7, [15, 15, 2, 3, 4, 1])])
    for name in ("._coco.json", "__MACOSX/._coco.json", "images/._frame1.png", "Thumbs.db", ".DS_Store", "__MACOSX/coco.json"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"\0\5\x16\7")
    assert len(read(root)[0]) == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"annotations": [area(7, [[0, 0, 1e300, 5, 9, 9]])]}, "vertex farther than 1e[+]07 px"),
        ({"annotations": [area(7, {"size": [HEIGHT, WIDTH], "counts": "o" * 100})]}, "longer than any image"),
        ({"annotations": [area(7, {"size": [HEIGHT, WIDTH], "counts": "0" * 100_000})]}, "more than the image can have"),
        ({"annotations": [points(k, [1, 2, 2, 3, 4, 2]) for k in range(200)]}, "more than 100 instruments"),
        ({"annotations": [], "categories": [{**SHAFT, "id": k} for k in range(1001)]}, "has 1001 categories, and 1000"),
        ({"annotations": [], "categories": [{**TOOL, "keypoints": [*map(str, range(1001))]}]}, "has 1001 keypoints, and 1000"),
        ({"annotations": [], "images": [image(k, f"gone{k}.png") for k in range(2000)]}, "nor are 999 others of its 2000"),
    ],
)
def test_what_would_take_long_is_refused_at_once(root: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        list(open_coco(write(root, **changes))[0])
