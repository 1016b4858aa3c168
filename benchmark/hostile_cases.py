"""What ``benchmark/hostile.py`` tries: each hostile file with the command that reads it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_bags as bags
import hostile_files as files

from csl_tracker.import_path import python_command, safe_environment

MODELS = Path(__file__).resolve().parents[1] / "csl_tracker" / "models"
CPU = ("--device", "cpu", "--engine", "torch")


@dataclass(frozen=True)
class Case:
    """A hostile file and the command that reads it.

    Attributes:
        kind: What is read.
        name: What is wrong, in a few words.
        make: Builds it in a folder and returns its path.
        command: Words of ``csl-tracker``; ``FILE`` and ``OUT`` stand for the file and for a place for results.
        usable: Whether the command is to do its work all the same.
        says: What has to stand in its output then.
    """

    kind: str
    name: str
    make: Callable[[Path], Path]
    command: tuple[str, ...]
    usable: bool = False
    says: str = ""


def weights_cases() -> Iterator[Case]:
    """Weights files."""
    genuine = MODELS / "csl_lite0.safetensors"
    unet = {"network.strategy": "unet", "network.encoder": "none", "network.decoder": "none"}
    forest = {"network.strategy": "forest", "network.encoder": "none", "network.decoder": "none"}

    def case(what: str, *command: str, usable: bool = False, **changes: Any) -> Case:
        def make(place: Path) -> Path:
            return files.weights(place / "w.safetensors", genuine, **changes)

        return Case("weights", what, make, command or ("info", "FILE"), usable)

    yield case("header claims a U-Net of 8 GB", header={**unet, "network.width": 1024})
    yield case("header claims a U-Net of width 10^9", header={**unet, "network.width": 10**9})
    yield case("header claims a forest of 2 TB", header={**forest, "network.trees": 10_000, "network.nodes": 10_000_000})
    yield case("header claims an input of 10^12 px", header={"preprocessing.input_size": [10**6, 10**6]})
    yield case("heatmaps of sigma 10^9", header={"heatmap.sigma": 1e9})
    ring = [["center", "shaft"], ["shaft", "head"], ["head", "center"]]
    yield case("skeleton that closes a ring", header={"instruments.skeleton": ring}, usable=True)
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    yield case("header nested 400 deep", header={"provenance": {"x": deep}})
    yield case("header of 8 MB", header={"provenance": {"x": "y" * (8 << 20)}})
    yield case("standard deviation of 0", header={"preprocessing.std": [0, 1, 1]})
    yield case("mean that is no number", header={"preprocessing.mean": [float("nan")] * 3})
    yield case("threshold that is no number", header={"confidence_threshold": float("nan")})
    yield case("negative variances", tensors="variance")
    yield case("network that computes no numbers", tensors="overflow")
    yield case("integers for weights", tensors="integers")
    yield case("name that is a path, exported", "export", "FILE", "--out", "OUT", "--no-cache", name="../../outside")
    yield case("escape codes in the name", name=bags.ESCAPE)
    yield Case("weights", "16 GB of nothing", lambda place: files.sparse(place / "w.safetensors", 1 << 34), ("info", "FILE"))
    yield Case(
        "weights",
        "header of 90 MB",
        lambda place: files.sparse(place / "w.safetensors", 100_000_000, (90_000_000).to_bytes(8, "little") + b"{" * 1000),
        ("track", "FILE", "--weights", "FILE", "--output", "OUT"),
    )


def _packed(compression: str, claim: int, size: int) -> bytes:
    """A chunk that becomes a size, and claims another one."""
    return bags.chunk(compression, claim, bags.zeros(size) if compression == "zstd" else bags.lz4_zeros(size))


def bag_cases() -> Iterator[Case]:
    """Bags, MCAP and SQLite."""
    check, replay = ("bag", "info", "FILE", "--check"), ("replay", "FILE", "--out", "OUT/r.mcap", *CPU)

    def case(name: str, make: Callable[[Path], Path], *command: str, usable: bool = False, says: str = "") -> Case:
        return Case("bags", name, make, command or check, usable, says)

    yield case("zstd chunk of 8 GB", lambda at: bags.mcap(at / "a.mcap", _packed("zstd", 1 << 33, 1 << 33)))
    yield case("zstd chunk that says 1 kB", lambda at: bags.mcap(at / "a.mcap", _packed("zstd", 1000, 1 << 32)))
    yield case("lz4 chunk of 4 GB", lambda at: bags.mcap(at / "a.mcap", _packed("lz4", 1 << 32, 1 << 32)))
    yield case("lz4 chunk that says 1 kB", lambda at: bags.mcap(at / "a.mcap", _packed("lz4", 1000, 1 << 31)))

    def bomb(at: Path) -> Path:
        return bags.mcap(at / "a.mcap", bags.topic(1, "/i", bags.IMAGE), bags.message(1, bags.zeros(1 << 32)))

    def whole(at: Path) -> Path:
        path = at / "a.db3.zstd"
        path.write_bytes(bags.zeros(1 << 33))
        return path

    yield case("message of 4 GB", bomb, *replay)
    yield case("whole file of 8 GB", whole)
    yield case("index that names a chunk again", lambda at: bags.indexed(at / "a.mcap", 2000, again=True), usable=True)
    fields = "\n".join(f"uint8 field{index}" for index in range(100_000))
    arrays = "string[1000000000] names"
    for name, definition in (("100,000 fields", fields), ("an array of 10^9 texts", arrays)):

        def schema(at: Path, definition: str = definition) -> Path:
            known = bags.topic(1, "/camera", bags.IMAGE, definition)
            return bags.mcap(at / "a.mcap", known, bags.message(1, bags.cdr_image(4, 4, bytes(16))))

        yield case(f"definition with {name}", schema, usable=True)
    yield case(
        "65,536 channels",
        lambda at: bags.mcap(at / "a.mcap", *(bags.topic(number, f"/t{number}", "a/msg/B") for number in range(65_536))),
    )
    yield case("2 GB of records of nothing", lambda at: files.sparse(at / "a.mcap", 1 << 31, bags.MAGIC))
    view = f"CREATE VIEW messages AS {bags.ENDLESS}, x'00' AS data FROM n"
    yield case("view without end", lambda at: bags.database(at / "a.db3", "DROP TABLE messages", view))
    computed = "ALTER TABLE messages ADD COLUMN more BLOB AS (zeroblob(1000000000))"
    yield case("column of computed gigabytes", lambda at: bags.database(at / "a.db3", computed))
    yield case(
        "tree of pages without end",
        lambda at: bags.endless_tree(at / "a.db3"),
        usable=True,
        says="table of messages is broken",
    )
    for column, value in (("timestamp", "'noon'"), ("data", "'image'"), ("data", "NULL"), ("topic_id", "'1'")):
        change = f"UPDATE messages SET {column} = {value}"
        usable = column == "topic_id"  # SQLite itself makes a number of it
        yield case(
            f"{column} that is {value}",
            lambda at, change=change: bags.database(at / "a.db3", change),
            *replay[:4],
            *CPU,
            usable=usable,
        )
    yield case("aliases in metadata.yaml", lambda at: bags.folder(at / "bag", bags.aliases()))
    yield case("depth in metadata.yaml", lambda at: bags.folder(at / "bag", "a: " + "[" * 100_000))
    yield case("path out of the folder", lambda at: bags.folder(at / "bag", bags.metadata(["../../secret.mcap"])))
    yield case("the same file 10,000 times", lambda at: bags.folder(at / "bag", bags.metadata(["a.mcap"] * 10_000)))

    def escapes(at: Path) -> Path:
        known = bags.topic(1, f"/camera{bags.ESCAPE}", bags.IMAGE)
        return bags.mcap(at / "a.mcap", known, bags.message(1, bags.cdr_image(4, 4, bytes(16), f"frame{bags.ESCAPE}")))

    yield case("escape codes in names", escapes, usable=True, says="x1b]0;owned")

    def image(data: bytes, form: str = "png") -> Callable[[Path], Path]:
        def make(at: Path) -> Path:
            known = bags.topic(1, "/camera/compressed", bags.COMPRESSED)
            return bags.mcap(at / "a.mcap", known, bags.message(1, bags.cdr_compressed(data, form)))

        return make

    yield case("CompressedImage of 900 million px", image(files.png(30_000, 30_000)), *replay)
    yield case("CompressedImage of a size it has not", image(files.png(30_000, 30_000, 10)), *replay)
    yield case(
        "raw image of a size it has not",
        lambda at: bags.mcap(
            at / "a.mcap",
            bags.topic(1, "/camera", bags.IMAGE),
            bags.message(1, bags.cdr_image(1 << 31, 1 << 31, bytes(16))),
        ),
        *replay,
    )
    yield case(
        "20 GB in chunks of 64 MB",
        lambda at: bags.indexed(at / "a.mcap", 320, hole=64 << 20),
        "bag",
        "info",
        "FILE",
        usable=True,
    )
    yield case(
        "unusable poses",
        lambda at: bags.mcap(
            at / "a.mcap",
            bags.topic(1, "/tracker_node/poses", "csl_tracker_msgs/msg/InstrumentPoseArray"),
            bags.message(1, b"\0\1\0\0" + b"\xff" * 200),
        ),
        "evaluate-bag",
        "FILE",
        "--out",
        "OUT",
    )


def image_cases() -> Iterator[Case]:
    """Folders of images, and videos."""
    track = ("track", "FILE", "--output", "OUT", *CPU)

    def folder(name: str, file: str, data: Callable[[], bytes]) -> Case:
        return Case("images", name, lambda at: files.images(at / "frames", (file, data())), track)

    yield folder("PNG of 900 million px", "0.png", lambda: files.png(30_000, 30_000))
    yield folder("PNG of 2^31 x 2^31 px", "0.png", _huge_png)
    yield folder("PNG that ends early", "0.png", lambda: files.png(2000, 2000)[:400])
    yield folder("TIFF of 65,000 x 65,000 px", "0.tif", lambda: files.tiff(65_000, 65_000))
    yield folder("text called 0.png", "0.png", lambda: b"no image" * 100)
    yield Case("videos", "frames of 900 million px", lambda at: files.large_frames(at / "v.avi"), track)
    yield Case("videos", "text called v.mp4", lambda at: files.sparse(at / "v.mp4", 100_000, b"no video"), track)

    def cut(at: Path) -> Path:
        data = files.video(at / "whole.avi").read_bytes()
        (at / "v.avi").write_bytes(data[:300])
        return at / "v.avi"

    def claims(at: Path) -> Path:
        path = files.video(at / "v.avi")
        raw = bytearray(path.read_bytes())
        for mark, offset in ((b"avih", 8 + 32), (b"strf", 8 + 4)):
            place = raw.index(mark) + offset
            raw[place : place + 8] = (60_000).to_bytes(4, "little") * 2
        path.write_bytes(raw)
        return path

    yield Case("videos", "AVI cut off in its head", cut, track)
    yield Case("videos", "AVI that claims 60,000 x 60,000 px", claims, track, usable=True)


def _huge_png() -> bytes:
    honest = bytearray(files.png(16, 16))
    honest[16:24] = ((1 << 31) - 1).to_bytes(4, "big") * 2
    honest[29:33] = zlib.crc32(bytes(honest[12:29])).to_bytes(4, "big")
    return bytes(honest)


def dataset_cases() -> Iterator[Case]:
    """Labels in JSON and YAML, and configurations."""
    inspect = ("dataset", "inspect", "FILE")

    def coco(name: str, content: Callable[[], str], usable: bool = False) -> Case:
        return Case("datasets", name, lambda at: files.coco(at / "set", content()), inspect, usable)

    yield coco("JSON nested 100,000 deep", lambda: "[" * 100_000 + "]" * 100_000)
    yield coco("COCO with its images nested deep", lambda: '{"images": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}")
    yield coco(
        "COCO with an image of 10^10 px",
        lambda: files.coco_of(images=[{"id": 1, "file_name": "0.png", "width": 10**5, "height": 10**5}]),
    )
    yield coco(
        "COCO with a path out of the folder",
        lambda: files.coco_of(images=[{"id": 1, "file_name": "../../../../etc/passwd", "width": 128, "height": 96}]),
    )
    yield coco(
        "COCO with numbers that are none",
        lambda: files.coco_of(
            annotations=[
                {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1e400, float("nan"), 2, 3, 4, 2], "num_keypoints": 2}
            ]
        ),
    )
    yield coco("COCO that is cut off", lambda: files.coco_of()[:-40])
    yield Case("configurations", "aliases without number", lambda at: _text(at / "c.yaml", bags.aliases()), ("train", "FILE"))
    yield Case("configurations", "YAML nested deep", lambda at: _text(at / "c.yaml", "a: " + "[" * 100_000), ("train", "FILE"))
    yield Case("configurations", "YAML of 50 MB", lambda at: _text(at / "c.yaml", "a: b\n" * 10_000_000), ("train", "FILE"))
    yield Case(
        "configurations",
        "calibration with aliases",
        lambda at: _text(files.small(at / "f") / "c.yaml", bags.aliases()),
        ("bag", "make", "FOLDER", "--out", "OUT/b.mcap", "--camera-info", "FILE"),
    )


def _text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def cache_cases() -> Iterator[Case]:
    """Exported networks that another user could have put there."""

    def forged(change: Callable[[Path], None]) -> Callable[[Path], Path]:
        def make(at: Path) -> Path:
            environment = {**os.environ, **safe_environment(), "XDG_CACHE_HOME": str(at / "cache")}
            command = ("export", "csl_lite0", "--engine", "onnx", "--size", "96x128", "--count", "1")
            subprocess.run(
                python_command("-m", "csl_tracker.cli.main", *command), env=environment, check=True, capture_output=True
            )
            network = next((at / "cache" / "csl_tracker" / "engines").iterdir())
            (network / "network.onnx").write_bytes(b"forged")
            manifest = json.loads((network / "manifest.json").read_text())
            manifest["files"]["network.onnx"] = hashlib.sha256(b"forged").hexdigest()
            (network / "manifest.json").write_text(json.dumps(manifest))
            change(network)
            return files.small(at / "frames")

        return make

    track = ("track", "FILE", "--weights", "csl_lite0", "--output", "OUT", "--device", "cpu", "--engine", "onnx")
    for name, change in (
        ("folder that others can write to", lambda network: network.chmod(0o777)),
        ("cache that others can write to", lambda network: network.parent.chmod(0o777)),
        ("file that others can write to", lambda network: (network / "network.onnx").chmod(0o666)),
    ):
        yield Case("export cache", f"forged network in a {name}", forged(change), track, True, "built from the weights")


def cases() -> list[Case]:
    """All of them."""
    return [*weights_cases(), *bag_cases(), *image_cases(), *dataset_cases(), *cache_cases()]
