"""HTML pages that need nothing from elsewhere, made by one template that escapes everything it is given."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from csl_tracker.reporting.table import Table

_TEMPLATES = Environment(
    loader=PackageLoader("csl_tracker.reporting", "report_page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it: a text, a table, a chart and notes, each where there is one.

    Attributes:
        title: Heading.
        text: A paragraph above the rest.
        head: Titles of the table's columns.
        rows: Its cells; the first one of a row is its name.
        left: Indices of the columns of text, which are aligned to the left.
        chart: A drawing of :mod:`csl_tracker.reporting.report_charts`: the only part that is not escaped again.
        caption: Below the chart.
        notes: Paragraphs at the end.
    """

    title: str
    text: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    left: Collection[int] = (0,)
    chart: Markup | None = None
    caption: str = ""
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, table: Table) -> Section:
        """A table with its caption."""
        left = [index for index in range(len(table.columns)) if all(isinstance(row[index], str) for row in table.rows)]
        return cls(table.title, table.caption, [column.title for column in table.columns], table.texts(), left)


@dataclass(frozen=True)
class Video:
    """The video of a page.

    Attributes:
        source: Its address: ``data:`` where the page holds it.
        beside: Its file's name where it lies beside the page; else empty.
        fps: Frames a second.
        frames: Their number.
    """

    source: str
    beside: str
    fps: str
    frames: int


@dataclass(frozen=True)
class PageFrame:
    """A frame that can be chosen.

    Attributes:
        index: Its number.
        time: Its middle in the video, s.
        label: On its button.
        title: Says more than the label.
        picture: ``data:`` address of its picture; empty without.
    """

    index: int
    time: str
    label: str
    title: str
    picture: str


@dataclass(frozen=True)
class Player:
    """A video and frames of it; either may be missing."""

    video: Video | None
    frames: Sequence[PageFrame]


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: Its title and heading.
        sections: Its parts in order.
        summary: Below the heading.
        problems: Sentences on what is unusual.
        player: Video and pictures; None for a page without a script.
        command: What made the values.
        provenance: Lines on the machine and the input.
    """

    title: str
    sections: Sequence[Section]
    summary: str = ""
    problems: Sequence[str] = ()
    player: Player | None = None
    command: str = ""
    provenance: Sequence[str] = ()

    def html(self) -> str:
        """The whole page."""
        return _TEMPLATES.get_template("page.html").render(page=self)
