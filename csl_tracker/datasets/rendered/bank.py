"""The bank: rendered sprites, tissue pictures and scenes in a folder.

``bank.json`` has the settings. Each shard is an uncompressed ZIP file of pictures (WebP for colour, PNG for labels and depth)
and JSON, with an index beside it that names its SHA-256 and the families of its items. A shard without an index is incomplete.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, Image
from csl_tracker.datasets.rendered.mesh_scene import View
from csl_tracker.datasets.rendered.sprites import Sprite, ToolState
from csl_tracker.datasets.rendered.tissue import TissuePicture
from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.output import write_bytes, write_json
from csl_tracker.paths import user_path
from csl_tracker.provenance import sha256_of

FORMAT = 1
SETTINGS = "bank.json"
KINDS = ("sprites", "tissue", "scenes")
DEPTH_UNIT_M = 1e-5
"""Unit of the stored depth, uint16."""

_QUALITY = 96  # of WebP
_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's first date: the time of writing must not change a shard's hash
MAX_PIXELS = 4096 * 4096


@dataclass(frozen=True)
class WholeScene:
    """A scene with tools that was rendered at once.

    Attributes:
        image: uint8 (h, w, 3), RGB.
        labels: uint8 (h, w), parts of :mod:`csl_tracker.datasets.rendered.tool`.
        instances: uint8 (h, w), k for the k-th tool, 0 none.
        depth: float32 (h, w), m; 0 without a surface.
        view: The camera.
        tools: The tools.
        family: Kind of tissue.
        materials: All tissues in it.
    """

    image: Image
    labels: Image
    instances: Image
    depth: Float32Array
    view: View
    tools: tuple[ToolState, ...]
    family: str
    materials: tuple[str, ...]


Item = Sprite | TissuePicture | WholeScene


def families_of(item: Item) -> tuple[str, ...]:
    """The families that an item belongs to: of all tissues in it, and of its tools."""
    if isinstance(item, Sprite):
        return (item.tool.family,)
    tissue = dict.fromkeys((item.family, *item.materials))
    return tuple(tissue) if isinstance(item, TissuePicture) else (*tissue, *(tool.family for tool in item.tools))


def write_shard(folder: Path, kind: str, number: int, items: Sequence[Item]) -> None:
    """Write a shard and its index.

    Raises:
        DatasetError: A file cannot be written.
    """
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, item in enumerate(items):
            for suffix, content in item_files(item):
                archive.writestr(zipfile.ZipInfo(f"{index:04d}{suffix}", _EPOCH), content)
    path = shard_path(folder, kind, number)
    write_bytes(path, buffer.getvalue())
    write_json(
        path.with_suffix(".json"), {"sha256": sha256_of([path]), "families": [list(families_of(item)) for item in items]}
    )


def shard_path(folder: Path, kind: str, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{kind}-{number:05d}.zip"


def item_files(item: Item) -> Iterator[tuple[str, bytes]]:
    """The files of an item in a shard: suffix of the name, and content."""
    if isinstance(item, Sprite):
        yield ".webp", _webp(item.rgba)
        yield "-labels.png", _png(item.labels)
        yield "-depth.png", _png(_packed(item.depth))
        yield ".json", _json({"corner": item.corner, **_view_json(item.view), "tools": [item.tool.to_json()]})
    elif isinstance(item, TissuePicture):
        yield ".webp", _webp(item.image)
        yield ".json", _json({"family": item.family, "materials": item.materials})
    else:
        yield ".webp", _webp(item.image)
        yield "-labels.png", _png(item.labels)
        yield "-instances.png", _png(item.instances)
        yield "-depth.png", _png(_packed(item.depth))
        tools = [tool.to_json() for tool in item.tools]
        tissue = {"family": item.family, "materials": item.materials}
        yield ".json", _json({**tissue, **_view_json(item.view), "tools": tools})


def _view_json(view: View) -> dict[str, Any]:
    return {"size": view.size, "focal_px": view.focal_px}


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data).encode()


def _webp(image: Image) -> bytes:
    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(".webp", cv2.cvtColor(image, code), [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1].tobytes()


def _png(image: np.ndarray[tuple[int, ...], np.dtype[Any]]) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes()


def _packed(depth: Float32Array) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    return np.asarray(np.rint(np.clip(depth / DEPTH_UNIT_M, 0, 65535)), np.uint16)


@dataclass(frozen=True)
class Reference:
    """Where an item lies: its shard, and its number in it."""

    shard: Path
    index: int


_Listed = tuple[Reference, tuple[str, ...]]  # with its families


@dataclass(frozen=True)
class Bank:
    """The complete shards of a bank.

    Attributes:
        root: Its folder.
        settings: Content of ``bank.json``.
        sprites: The sprites.
        tissue: The tissue pictures.
        scenes: The whole scenes.
        hashes: SHA-256 of each shard, by its name.
        held_out: Families that were left out.
        only: The only families that were kept; empty for all.
    """

    root: Path
    settings: Mapping[str, Any]
    sprites: tuple[Reference, ...]
    tissue: tuple[Reference, ...]
    scenes: tuple[Reference, ...]
    hashes: Mapping[str, str] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def sprite(self, number: int) -> Sprite:
        """Read a sprite.

        Raises:
            DatasetError: Its shard is broken.
        """
        found = _Entry(self.sprites[number])
        data = found.json()
        corner = (int(data["corner"][0]), int(data["corner"][1]))
        return Sprite(
            found.color(".webp", 4),
            found.plain("-labels.png"),
            found.depth(),
            corner,
            _view(data),
            ToolState.from_json(data["tools"][0]),
        )

    def tissue_picture(self, number: int) -> TissuePicture:
        """Read a tissue picture.

        Raises:
            DatasetError: Its shard is broken.
        """
        found = _Entry(self.tissue[number])
        data = found.json()
        return TissuePicture(found.color(".webp", 3), str(data["family"]), tuple(map(str, data["materials"])))

    def scene(self, number: int) -> WholeScene:
        """Read a whole scene.

        Raises:
            DatasetError: Its shard is broken.
        """
        found = _Entry(self.scenes[number])
        data = found.json()
        return WholeScene(
            found.color(".webp", 3),
            found.plain("-labels.png"),
            found.plain("-instances.png"),
            found.depth(),
            _view(data),
            tuple(ToolState.from_json(tool) for tool in data["tools"]),
            str(data["family"]),
            tuple(map(str, data["materials"])),
        )


def _view(data: Mapping[str, Any]) -> View:
    return View((int(data["size"][0]), int(data["size"][1])), float(data["focal_px"]))


class _Entry:
    """The files of one item."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        prefix = f"{reference.index:04d}"
        try:
            # Opened for each item: an open archive must not be shared with forked workers.
            with zipfile.ZipFile(reference.shard) as archive:
                names = [name for name in archive.namelist() if name.startswith(prefix)]
                self._content = {name.removeprefix(prefix): archive.read(name) for name in names}
        except (OSError, zipfile.BadZipFile) as error:
            raise _unreadable(reference.shard, error) from error

    def json(self) -> Any:
        return json.loads(self._bytes(".json"))

    def color(self, suffix: str, channels: int) -> Image:
        image = self._decoded(suffix, cv2.IMREAD_UNCHANGED)
        if channels == 4 and image.shape[-1] == 3:  # WebP drops an alpha channel that is opaque everywhere
            image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
        return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if channels == 4 else cv2.COLOR_BGR2RGB))

    def plain(self, suffix: str) -> Image:
        return np.asarray(self._decoded(suffix, cv2.IMREAD_UNCHANGED), np.uint8)

    def depth(self) -> Float32Array:
        return np.asarray(self._decoded("-depth.png", cv2.IMREAD_UNCHANGED) * np.float32(DEPTH_UNIT_M), np.float32)

    def _decoded(self, suffix: str, flags: int) -> Any:
        image = cv2.imdecode(np.frombuffer(self._bytes(suffix), np.uint8), flags)
        if image is None:
            raise DatasetError(
                f"The shard {self._reference.shard} has a broken picture; delete it and its .json, and render again."
            )
        return image

    def _bytes(self, suffix: str) -> bytes:
        try:
            return self._content[suffix]
        except KeyError as error:
            raise _unreadable(self._reference.shard, error) from error


def _unreadable(shard: Path, error: Exception) -> DatasetError:
    return DatasetError(f"The shard {shard} cannot be read ({error}); delete it and its .json, and render again.")


def open_bank(root: str | os.PathLike[str], hold_out: Iterable[str] = (), only: Iterable[str] = ()) -> Bank:
    """Open a bank.

    Args:
        root: Its folder.
        hold_out: Families to leave out: of instruments and of tissue.
        only: The only families to use, if any are given; they restrict those kinds of items that have such a family.

    Raises:
        DatasetError: The folder is no bank, or none of its items is left.
        ConfigError: The bank has no such family.
    """
    folder = user_path(root)
    settings = read_settings(folder)
    known: dict[str, list[_Listed]] = {kind: [] for kind in KINDS}
    hashes = {}
    for kind in KINDS:
        for index in sorted(folder.glob(f"{kind}-*.json")):
            data = json.loads(index.read_text(encoding="utf-8"))
            shard = index.with_suffix(".zip")
            hashes[shard.name] = str(data["sha256"])
            known[kind] += [(Reference(shard, number), tuple(names)) for number, names in enumerate(data["families"])]
    every = {name for items in known.values() for _, names in items for name in names}
    held, kept = tuple(hold_out), tuple(only)
    for name in (*held, *kept):
        if name not in every:
            raise ConfigError(f"The bank {folder} has no family {name!r}; it has {', '.join(sorted(every)) or 'none'}.")
    chosen = {kind: tuple(_chosen(items, held, kept)) for kind, items in known.items()}
    if not any(chosen.values()):
        raise DatasetError(f"The bank {folder} has no items; render some with csl-tracker render.")
    return Bank(folder, settings, chosen["sprites"], chosen["tissue"], chosen["scenes"], hashes, held, kept)


def _chosen(
    items: Sequence[tuple[Reference, tuple[str, ...]]], held: Sequence[str], only: Sequence[str]
) -> Iterator[Reference]:
    restricting = any(name in only for _, names in items for name in names)
    for reference, names in items:
        if not set(names) & set(held) and (not restricting or set(names) & set(only)):
            yield reference


def read_settings(folder: Path) -> dict[str, Any]:
    """Settings of a bank.

    Raises:
        DatasetError: The folder is no bank.
    """
    path = folder / SETTINGS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"There is no readable {path}; make a bank with csl-tracker render --out {folder}.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise DatasetError(f"{path} is no bank of format {FORMAT}; render it again.")
    return data
