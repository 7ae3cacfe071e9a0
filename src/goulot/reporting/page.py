"""What a page is made of, and the page itself: templates/report.html lays the blocks out."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

NUMBER = re.compile(r"cached|[-+\d.,e% ±]*( [KMG]?i?B)?")
TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True)
class Tiles:
    """The few numbers that a person looks for first: a name, a value and what is said of it."""

    kind: ClassVar[str] = "tiles"
    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table with its caption; cells are text. `bars` are shares of 1 drawn behind the last column's cells."""

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[float] = ()

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers alone, and so stand to the right."""
        return [all(NUMBER.fullmatch(row[i]) for row in self.rows) for i in range(len(self.header))]

    @classmethod
    def of(cls, caption: str, frame: pd.DataFrame, *, bars: Sequence[float] = ()) -> "Table":
        """A data frame, floats to four places."""
        rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
        return cls(caption, [str(name).replace("_", " ") for name in frame.columns], rows, bars)


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, and what it shows."""

    kind: ClassVar[str] = "picture"
    caption: str
    uri: str

    @classmethod
    def of(cls, caption: str, source: Path) -> "Picture":
        """A file that a stage wrote, as JPEG: sheets of photographs are several times larger as PNG."""
        with Image.open(source) as image:
            return cls(caption, jpeg(image))


@dataclass(frozen=True)
class Chart:
    """A drawing as SVG, which says itself what is seen in it and follows the page's colours."""

    kind: ClassVar[str] = "chart"
    caption: str
    svg: str


@dataclass(frozen=True)
class Thumbnail:
    """A small image as a data URI, with its name and what is said of it; `over` is the same with a map laid over it."""

    uri: str
    name: str
    note: str = ""
    over: str = ""


@dataclass(frozen=True)
class Gallery:
    """Small images side by side; `of` is what each of them is, for those who do not see it."""

    kind: ClassVar[str] = "gallery"
    caption: str
    of: str
    items: Sequence[Thumbnail]


@dataclass(frozen=True)
class Matrix:
    """Numbers of names by names; shares, float (rows, columns) in 0 to 1, tint the cells."""

    kind: ClassVar[str] = "matrix"
    caption: str
    corner: str
    names: Sequence[str]
    cells: Sequence[Sequence[str]]
    shares: np.ndarray


@dataclass(frozen=True)
class Listing:
    """Terms and what is said of them, and commands to copy."""

    kind: ClassVar[str] = "listing"
    caption: str
    items: Sequence[tuple[str, str]]
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Map:
    """Points of a plane with what is known of each; `sprite` holds their thumbnails, `columns` in a row.

    points: (x, y) in 0 to 100. colours: by what the points may be coloured: a name, the names of its values and each
    point's value by number; the last value is that of the test set.
    """

    kind: ClassVar[str] = "map"
    caption: str
    points: Sequence[tuple[float, float]]
    notes: Sequence[str]
    colours: Sequence[tuple[str, Sequence[str], Sequence[int]]]
    sprite: str
    side: int
    columns: int
    thumbnails: int


Block = Tiles | Table | Picture | Chart | Gallery | Matrix | Listing | Map


@dataclass(frozen=True)
class Section:
    """A heading, and the lines and blocks below it."""

    title: str
    lines: Sequence[str]
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Its name in the page's address."""
        return self.title.lower().replace(" ", "-")


def render(*, title: str, lead: str, warnings: Sequence[str], sections: Sequence[Section]) -> str:
    """The page as HTML; all text is escaped."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(title=title, lead=lead, warnings=warnings, sections=sections)


def jpeg(image: Image.Image, quality: int = 80) -> str:
    """A data URI."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def cell(value: object) -> str:
    """A value as a table shows it."""
    if isinstance(value, float | np.floating):
        return f"{value:.4f}" if np.isfinite(value) else ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else ""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return str(value)
