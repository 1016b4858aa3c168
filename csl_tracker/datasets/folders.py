"""Folder traversal, and lookup of the files named by labels.

System files are skipped: hidden files, ``__MACOSX`` and ``._NAME`` from macOS archives, ``Thumbs.db`` and ``desktop.ini``.
File names are compared in Unicode's composed form, since macOS writes them decomposed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote

from csl_tracker.errors import DatasetError
from csl_tracker.natural_order import natural_path_order

MAX_DEPTH = 5
"""Default search depth for sequences below a root."""

T = TypeVar("T")

_LONGEST = 12  # maximum number of path parts to match
_CLUTTER = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"})
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's prefix of an uploaded file


def is_clutter(name: str) -> bool:
    """Whether a name is that of a system file or folder."""
    return name.startswith(".") or name.lower() in _CLUTTER


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), for comparisons."""
    return unicodedata.normalize("NFC", name)


def walk(root: Path, max_depth: int = MAX_DEPTH) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Like ``os.walk``, sorted, without system files and link loops; modify the list of folders to prune the walk."""
    above = {root: {os.path.realpath(root)}}
    for current, folders, names in os.walk(root, followlinks=True):
        folder = Path(current)
        real = above.pop(folder, set())
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        for name in list(folders):
            path = os.path.realpath(folder / name)
            if path in real:
                folders.remove(name)  # a link to a folder above itself
            else:
                above[folder / name] = {*real, path}
        yield folder, folders, sorted(name for name in names if not is_clutter(name))
        if len(folder.relative_to(root).parts) >= max_depth:
            folders.clear()


def path_parts(name: str) -> tuple[str, ...]:
    """The parts of a POSIX or Windows path without drive, root, ``.`` and ``..``."""
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", "//", "..", ".") and not part.endswith(":"))


def spellings(name: str) -> list[tuple[str, ...]]:
    """Candidate paths for an image name in a label file, the plain one first.

    The others omit a server prefix (``/data/local-files/?d=``) or a URL query, and decode ``%20`` and the like.
    """
    local = name.rpartition("?d=")[2]
    without_query = re.split(r"[?#]", local)[0]
    found = [name, local, unquote(local), without_query, unquote(without_query), unquote(unquote(without_query))]
    return list(dict.fromkeys(parts for text in found if (parts := path_parts(text))))


class FileFinder:
    """Finds the files named by labels, ignoring path prefixes and Unicode normalisation.

    Args:
        root: Root of the search.
        bases: Folders that paths may be relative to.
        depth: Search depth below the root for a bare file name; None disables this search.
    """

    def __init__(self, root: Path, bases: Iterable[Path], depth: int | None = None) -> None:
        self._root = root
        self._bases = list(dict.fromkeys(bases))
        self._depth = depth
        self._listings: dict[Path, dict[str, str]] = {}
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str, *, more_bases: Sequence[Path] = (), whole: bool = False) -> Path | None:
        """Find a file; None if it is missing or ambiguous.

        Args:
            name: A path, a URL or a file name.
            more_bases: Base folders to try first.
            whole: Match the full path, so that ``case7/img1.png`` does not match another ``img1.png``.
        """
        bases = list(dict.fromkeys([*more_bases, *self._bases]))
        ways = spellings(name)
        for parts in ways:
            for skip in range(1) if whole else range(max(0, len(parts) - _LONGEST), len(parts)):
                for base in bases:
                    found = self._at(base, parts[skip:])
                    if found is not None:
                        return found
        return self._by_its_name(ways)

    def _at(self, base: Path, parts: tuple[str, ...]) -> Path | None:
        path = base.joinpath(*parts)
        try:
            if path.is_file():
                return path
        except OSError:  # name too long
            return None
        if not base.is_dir():
            return None
        folder = base
        for part in parts:
            listing = self._listing(folder)
            actual = listing.get(composed(part)) or listing.get(composed(part).lower())
            if actual is None:
                return None
            folder = folder / actual
        return folder if folder.is_file() else None

    def _listing(self, folder: Path) -> dict[str, str]:
        """Composed name -> name on disk; also the lower-case name if it is unique."""
        if folder not in self._listings:
            try:
                names = [name for name in os.listdir(folder) if not is_clutter(name)]
            except OSError:
                names = []
            lower = Counter(composed(name).lower() for name in names)
            alone = {low: name for name in names if lower[low := composed(name).lower()] == 1}
            self._listings[folder] = alone | {composed(name): name for name in names}
        return self._listings[folder]

    def _by_its_name(self, ways: Sequence[tuple[str, ...]]) -> Path | None:
        if self._depth is None:
            return None
        if self._by_name is None:
            self._by_name = defaultdict(list)
            for folder, _, names in walk(self._root, self._depth):
                for name in names:
                    self._by_name[composed(name).lower()].append(folder / name)
        for last in dict.fromkeys(parts[-1] for parts in ways):
            for name in (last, _UPLOAD.sub("", last)):
                found = self._by_name.get(composed(name).lower(), [])
                exact = [path for path in found if composed(path.name) == composed(name)]
                for choice in (exact, found):
                    if len(choice) == 1:
                        return choice[0]
        return None


def unique_names(root: Path, folders: Iterable[Path]) -> dict[str, Path]:
    """Name -> folder of each sequence; the name is the folder name if unique, else the path relative to the root."""
    known = list(folders)
    own = [composed((folder.resolve() if folder == root else folder).name) for folder in known]
    names = {
        name if own.count(name) == 1 or folder == root else composed(folder.relative_to(root).as_posix()): folder
        for name, folder in zip(own, known, strict=True)
    }
    return dict(sorted(names.items(), key=lambda item: natural_path_order(item[0])))


def choose(root: Path, found: Mapping[str, T], wanted: Iterable[str] | None) -> list[tuple[str, T]]:
    """Select sequences by name, in the given order (None: all). Names match regardless of Unicode normalisation.

    Raises:
        DatasetError: A name is unknown.
    """
    known = {composed(name): name for name in found}
    names = list(found) if wanted is None else list(wanted)
    for name in names:
        if composed(name) not in known:
            raise DatasetError(f"The dataset {root} has no sequence {name!r}; it has {', '.join(found)}.")
    return [(known[composed(name)], found[known[composed(name)]]) for name in names]
