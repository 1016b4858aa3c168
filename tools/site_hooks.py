"""Hooks of mkdocs.yml: pages from outside ``docs``, and links that work in the repository and on the site.

README.md becomes the site's first page. Other files that pages link to are copied below ``repository/``.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "csl_tracker/models/MODEL_CARD.md": "MODEL_CARD.md",
}
"""Pages outside docs: path in the repository -> path on the site."""

_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code>)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs, and the files that pages link to."""
    for source, target in PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    linked = {path for file in files.documentation_pages() for path in _linked(file)}
    for path in sorted(linked - set(PAGES)):
        if not path.startswith("docs/") and (ROOT / path).is_file():
            files.append(File.generated(config, f"repository/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_others: Any) -> str:
    """Point links to the site's paths."""
    source = _in_repository(page.file.src_uri)

    def replace(link: re.Match[str]) -> str:
        if _is_external(link[2]):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        relative = posixpath.relpath(_on_site(path), posixpath.dirname(page.file.src_uri) or ".")
        return f"{link[1]}{relative}{link[3]}"

    return _LINK.sub(replace, markdown)


def on_page_content(html: str, **_others: Any) -> str:
    """Drop the roles of docstrings: ``:class:`X``` is shown as code."""
    return _ROLE.sub("", html)


def _linked(file: Any) -> set[str]:
    folder = posixpath.dirname(_in_repository(file.src_uri))
    links = {link[2] for link in _LINK.finditer(file.content_string)}
    return {posixpath.normpath(posixpath.join(folder, link)) for link in links if not _is_external(link)}


def _in_repository(page: str) -> str:
    return next((source for source, target in PAGES.items() if target == page), f"docs/{page}")


def _on_site(path: str) -> str:
    if (ROOT / path / "README.md").is_file():
        path = f"{path}/README.md"
    return PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}")


def _is_external(link: str) -> bool:
    return "://" in link or link.startswith("mailto:")
