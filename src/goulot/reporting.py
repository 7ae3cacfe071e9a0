"""The report's page: tables and pictures put into one self-contained HTML file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve


@dataclass(frozen=True)
class Table:
    """A table with its caption; cells are text."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @classmethod
    def of(cls, caption: str, frame: pd.DataFrame) -> "Table":
        """A data frame, floats to four places."""
        rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
        return cls(caption, [str(name).replace("_", " ") for name in frame.columns], rows)


@dataclass(frozen=True)
class Picture:
    """A PNG as base64, and what it shows."""

    caption: str
    data: str

    @classmethod
    def of(cls, caption: str, source: Path | Figure) -> "Picture":
        """A PNG file or a figure."""
        if isinstance(source, Path):
            png = source.read_bytes()
        else:
            buffer = io.BytesIO()
            # Without the version of the library in it, the same figure is the same bytes.
            source.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
            png = buffer.getvalue()
        return cls(caption, base64.b64encode(png).decode())


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    lines: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = field(default_factory=list)


def render(*, title: str, lead: str, warnings: Sequence[str], sections: Sequence[Section]) -> str:
    """The page as HTML; all text is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html").render(title=title, lead=lead, warnings=warnings, sections=sections)


def depth_figure(ranking: pd.DataFrame, score: str) -> Figure:
    """Probe score against multiply-adds, a line a backbone and pooling: shallow and cheap to deep and dear."""
    figure, axes = _axes("multiply-adds an image (millions)", f"{score} of a linear probe", (8, 4.2))
    pooling = ranking["column"].str.extract(r"\.(\w+)$")[0].fillna("")
    for (backbone, kind), rows in ranking.assign(pooling=pooling).groupby(["backbone", "pooling"], sort=True):
        ordered = rows.sort_values("multiply_adds")
        x, y = ordered["multiply_adds"] / 1e6, ordered["score"]
        axes.plot(
            x,
            y,
            marker="o" if kind == "avg" else "^" if kind == "max" else "s",
            label=f"{backbone} {kind}".strip(),
        )
        for px, py, name in zip(x, y, ordered["column"], strict=True):
            axes.annotate(str(name).partition(".")[0], (px, py), textcoords="offset points", xytext=(3, 4), fontsize=7)
    axes.legend(fontsize=8)
    return figure


def roc_figure(y: np.ndarray, p: np.ndarray, classes: Sequence[str]) -> Figure:
    """Receiver operating characteristic, of the second class where there are two, else of each (ten at most)."""
    figure, axes = _axes("false positive rate", "true positive rate", (4.6, 4.2))
    for number in [1] if len(classes) == 2 else np.unique(y)[:10].tolist():
        wrong, right, _ = roc_curve(y == number, p[:, number])
        axes.plot(wrong, right, label=classes[number])
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axes.legend(fontsize=8)
    return figure


def calibration_figure(right: np.ndarray, p: np.ndarray, of: str) -> Figure:
    """How often a prediction is right against how sure it was; `right` is bool (n,), `p` float (n,)."""
    figure, axes = _axes(f"probability of {of}", "share that is right", (4.6, 4.2))
    right, sure = calibration_curve(right, p, n_bins=8, strategy="quantile")
    axes.plot(sure, right, marker="o")
    low = min(float(sure.min()), float(right.min()))
    axes.plot([low, 1], [low, 1], color="gray", linewidth=0.8)
    return figure


def confusion_figure(counts: pd.DataFrame) -> Figure:
    """Decided classes (columns) against actual ones (rows), coloured by share of the row."""
    size = 1.6 + 0.42 * len(counts)
    figure, axes = _axes("decided", "actual", (max(size, 4.2), max(size, 4.2)))
    axes.grid(visible=False)
    shares = counts.to_numpy() / np.maximum(counts.sum(axis=1).to_numpy()[:, None], 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [str(name)[:20] for name in counts.index]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for (row, column), share in np.ndenumerate(shares):
        if count := counts.iat[row, column]:
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color="w" if share > 0.6 else "k")
    return figure


def likeness_figure(counts: pd.DataFrame, least: float) -> Figure:
    """Pairs by likeness (columns likeness, what, pairs), on the scale -log10(1 - likeness), and the threshold."""
    figure, axes = _axes("likeness", "pairs", (8, 3.4))
    for what, rows in counts.groupby("what", sort=False):
        axes.step(-np.log10(1 - rows["likeness"]), rows["pairs"], where="post", label=str(what))
    axes.axvline(-np.log10(1 - least), color="gray", linestyle="--", label=f"threshold {least:.4f}")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(6), ["0", "0.9", "0.99", "0.999", "0.9999", "0.99999"])
    axes.legend(fontsize=8)
    return figure


def scatter_figure(y: np.ndarray, p: np.ndarray, name: str) -> Figure:
    """Predicted against actual numbers."""
    figure, axes = _axes(f"actual {name}", f"predicted {name}", (4.6, 4.2))
    axes.scatter(y, p, s=8, alpha=0.5)
    ends = [float(y.min()), float(y.max())]
    axes.plot(ends, ends, color="gray", linewidth=0.8)
    return figure


def _axes(x: str, y: str, size: tuple[float, float]) -> tuple[Figure, "mpl.axes.Axes"]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4f}"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else ""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return str(value)
