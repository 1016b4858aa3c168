"""Self-contained HTML pages from one template with auto-escaping."""

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
class Picture:
    """A picture with a caption.

    Attributes:
        source: Its ``data:`` URL.
        caption: Text below it, and its description.
    """

    source: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with an optional text, table, chart, pictures and notes.

    Attributes:
        title: Heading.
        text: Paragraph below the heading.
        head: Column titles of the table.
        rows: Cells of the table; the first cell of a row is its name.
        left: Indices of left-aligned columns.
        chart: A chart of :mod:`csl_tracker.reporting.report_charts`; inserted without escaping.
        caption: Caption of the chart.
        pictures: Pictures, in rows of two.
        notes: Paragraphs at the end.
    """

    title: str
    text: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    left: Collection[int] = (0,)
    chart: Markup | None = None
    caption: str = ""
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, table: Table) -> Section:
        """A section with a table and its caption."""
        left = [index for index in range(len(table.columns)) if all(isinstance(row[index], str) for row in table.rows)]
        return cls(table.title, table.caption, [column.title for column in table.columns], table.texts(), left)


@dataclass(frozen=True)
class Video:
    """The video of a page.

    Attributes:
        source: Its URL; a ``data:`` URL if embedded.
        beside: Its file name if it is stored next to the page; else empty.
        starts: Start of each frame, s, separated by spaces.
    """

    source: str
    beside: str
    starts: str


@dataclass(frozen=True)
class PageFrame:
    """A selectable frame.

    Attributes:
        index: Frame number.
        time: A time inside it in the video, s; empty without a video.
        label: Text of its button.
        title: Tooltip.
        picture: ``data:`` URL of its image, or empty.
    """

    index: int
    time: str
    label: str
    title: str
    picture: str


@dataclass(frozen=True)
class Player:
    """An optional video and selectable frames."""

    video: Video | None
    frames: Sequence[PageFrame]


@dataclass(frozen=True)
class Page:
    """Contents of a page.

    Attributes:
        title: Title and heading.
        sections: The sections in order.
        summary: Paragraph below the heading.
        problems: Sentences about anomalies.
        player: Video and images; None for a page without a script.
        command: The command that produced the values.
        provenance: Lines about machine and input.
    """

    title: str
    sections: Sequence[Section]
    summary: str = ""
    problems: Sequence[str] = ()
    player: Player | None = None
    command: str = ""
    provenance: Sequence[str] = ()

    def html(self) -> str:
        """Render the page."""
        return _TEMPLATES.get_template("page.html").render(page=self)
