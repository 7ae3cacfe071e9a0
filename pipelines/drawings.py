"""Pictures for the page: the plots of `dvc.yaml` drawn as DVC's templates draw them, large pictures made smaller."""

import csv
import io
from collections import Counter
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pipelines.graph import Plot

DOTS_PER_INCH = 90
WIDTH = 1000


def drawn(plot: Plot, root: Path) -> bytes | None:
    """Return the plot as a PNG, None if its table is not there or lacks a column or rows."""
    file = root / plot.table
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", newline="") as handle:
        points = [(row.get(plot.x), row.get(plot.y)) for row in csv.DictReader(handle)]
    pairs = [(x, y) for x, y in points if x and y]
    if not pairs:
        return None
    figure = Figure(figsize=(5.2, 3.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    if plot.template.startswith("confusion"):
        _confusion(axes, pairs)
    else:
        xs, ys = zip(*sorted((float(x), float(y)) for x, y in pairs), strict=True)
        axes.plot(xs, ys, "o" if plot.template == "scatter" else "o-")
        axes.grid(alpha=0.3)
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
