"""Folders as people unpack them, and the files in them as labels call them.

What systems leave behind is never seen: hidden files, ``__MACOSX`` and ``._NAME`` of archives from a Mac, ``Thumbs.db`` and
``desktop.ini``. Names of files are compared in Unicode's composed form, since a Mac writes them decomposed.
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
"""How far below a root sequences are looked for, where a layout does not say otherwise."""

T = TypeVar("T")

_LONGEST = 12  # parts of a path that are tried
_CLUTTER = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"})
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's prefix of an uploaded file


def is_clutter(name: str) -> bool:
    """Whether a file or a folder of that name belongs to the system and not to a dataset."""
    return name.startswith(".") or name.lower() in _CLUTTER


def composed(name: str) -> str:
    """A name in Unicode's composed form, in which names are compared."""
    return unicodedata.normalize("NFC", name)


def walk(root: Path, max_depth: int = MAX_DEPTH) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield every folder below a root with the names of its folders and files, sorted; clutter and loops are left out.

    The list of folders may be changed by the caller to stay out of some.
    """
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
    """The parts of a path as any system writes it, without drive, root, ``.`` and ``..``."""
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", "//", "..", ".") and not part.endswith(":"))


def spellings(name: str) -> list[tuple[str, ...]]:
    """The paths that a label may mean by the name of its image, the plain one first.

    Then what a server puts before it is left out (``/data/local-files/?d=``), the query of a URL, and ``%20`` becomes a blank.
    """
    local = name.rpartition("?d=")[2]
    without_query = re.split(r"[?#]", local)[0]
    found = [name, local, unquote(local), without_query, unquote(without_query), unquote(unquote(without_query))]
    return list(dict.fromkeys(parts for text in found if (parts := path_parts(text))))


class FileFinder:
    """Finds the files that labels name, whatever stands before their names, and in any normal form of Unicode.

    Args:
        root: Folder below which nothing is out of reach.
        bases: Folders from which a path may start.
        depth: How far below the root a lone name is looked for; None never looks so.
    """

    def __init__(self, root: Path, bases: Iterable[Path], depth: int | None = None) -> None:
        self._root = root
        self._bases = list(dict.fromkeys(bases))
        self._depth = depth
        self._listings: dict[Path, dict[str, str]] = {}
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str, *, more_bases: Sequence[Path] = (), whole: bool = False) -> Path | None:
        """The file that is meant; None where there is none, or more than one of that name and nothing else to go by.

        Args:
            name: A path, a URL or a lone name.
            more_bases: Folders that go before the others.
            whole: Leave out nothing from the front of a path, so that ``case7/img1.png`` is no ``img1.png`` elsewhere.
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
        except OSError:  # too long for a name
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
        """Composed name -> name on disk, and the same in lower case where that is one file alone."""
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
    """Name -> folder of a sequence: the folder's own name, or its path below the root where others have that name, too."""
    known = list(folders)
    own = [composed((folder.resolve() if folder == root else folder).name) for folder in known]
    names = {
        name if own.count(name) == 1 or folder == root else composed(folder.relative_to(root).as_posix()): folder
        for name, folder in zip(own, known, strict=True)
    }
    return dict(sorted(names.items(), key=lambda item: natural_path_order(item[0])))


def choose(root: Path, found: Mapping[str, T], wanted: Iterable[str] | None) -> list[tuple[str, T]]:
    """The sequences that are wanted, in that order; all of them for None. Names match in any normal form of Unicode.

    Raises:
        DatasetError: One is not there.
    """
    known = {composed(name): name for name in found}
    names = list(found) if wanted is None else list(wanted)
    for name in names:
        if composed(name) not in known:
            raise DatasetError(f"The dataset {root} has no sequence {name!r}; it has {', '.join(found)}.")
    return [(known[composed(name)], found[known[composed(name)]]) for name in names]
