"""Pictures for the page: the plots of `dvc.yaml` drawn as DVC's templates draw them, large pictures made smaller."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pipelines.graph import Plot

DOTS_PER_INCH = 90
WIDTH = 1000


def tables(plot: Plot, root: Path) -> Iterator[Plot]:
    """Yield the plot of each table where it names a folder of them, as DVC does; else the plot itself."""
    if not (root / plot.table).is_dir():
        yield plot
        return
    for file in sorted((root / plot.table).glob("*.csv")):
        yield replace(plot, title=f"{plot.title}: {file.stem}", table=file.relative_to(root).as_posix())


def drawn(plot: Plot, root: Path) -> bytes | None:
    """Return the plot as a PNG, None if its table is not there or lacks a column or rows."""
    file = root / plot.table
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    lines = {column: [(x, y) for row in rows if (x := row.get(plot.x)) and (y := row.get(column))] for column in plot.y}
    if not all(lines.values()):
        return None
    figure = Figure(figsize=(5.2, 3.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot(title=plot.title, xlabel=plot.x, ylabel=plot.y[0] if len(plot.y) == 1 else "")
    if plot.template.startswith("confusion"):
        _confusion(axes, lines[plot.y[0]])
        return _png(figure)
    for column, pairs in lines.items():
        xs, ys = zip(*sorted((float(x), float(y)) for x, y in pairs), strict=True)
        axes.plot(xs, ys, "o" if plot.template == "scatter" else "o-", label=column)
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend()
    return _png(figure)


def _confusion(axes: Axes, pairs: list[tuple[str, str]]) -> None:
    """Count how often each pair occurs; the rows are y, as in DVC's template."""
    counts = Counter(pairs)
    names = sorted({name for pair in pairs for name in pair})
    table = [[counts[x, y] for x in names] for y in names]
    axes.imshow(table, cmap="Blues")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    half = max(map(max, table)) / 2
    for row, line in enumerate(table):
        for column, count in enumerate(line):
            axes.text(column, row, str(count), ha="center", va="center", color="white" if count > half else "black")


def _png(figure: Figure) -> bytes:
    with io.BytesIO() as sink:
        figure.savefig(sink, format="png")
        return sink.getvalue()


def reduced(picture: bytes) -> bytes:
    """Return a picture as a JPEG of a size for a page."""
    with Image.open(io.BytesIO(picture)) as image, io.BytesIO() as sink:
        small = image.convert("RGB")
        small.thumbnail((WIDTH, 4 * WIDTH))
        small.save(sink, "JPEG", quality=80)
        return sink.getvalue()
