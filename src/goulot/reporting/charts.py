"""Drawings as inline SVG: matplotlib draws, and the page's style sheet says which colours its placeholders are."""

import base64
import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

TEXT = "#010203"  # stands for the page's own text colour
SERIES = [f"#0a0b{number:02x}" for number in range(8)]  # stand for --c0 to --c7 of report.css
SIZE = (4.8, 3.6)  # inches; at this size the text can be read on a phone
POINTS = 200  # of a curve; 1,500 of a cloud
CLOUD = 1500

STYLE: Any = {
    "text.color": TEXT, "axes.edgecolor": TEXT, "axes.labelcolor": TEXT, "xtick.color": TEXT, "ytick.color": TEXT,
    "axes.facecolor": "none", "figure.facecolor": "none", "legend.framealpha": 0.0, "grid.color": TEXT,
    "grid.alpha": 0.15, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "legend.fontsize": 9,
    "svg.fonttype": "none", "text.parse_math": False, "axes.formatter.useoffset": False,
    "axes.prop_cycle": cycler(color=SERIES),
}  # fmt: skip


def draw(paint: Callable[[Axes], object], *, x: str, y: str, said: str, size: tuple[float, float] = SIZE) -> str:
    """An <svg> of what `paint` puts on the axes. Names inside it are its own: a page holds several.

    said: what it shows, in words and numbers, for those who cannot see it.
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"{x}{y}"}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid()
        paint(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return f'<svg role="img" aria-label="{escape(said)}"' + _themed(buffer.getvalue()).removeprefix("<svg")


def _themed(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.S)
    svg = re.sub(r'<g id="tips:([^"]*)">.*?</defs>.*?</g>', _with_tips, svg, flags=re.S)
    svg = re.sub(r' id="[a-z0-9_.]+_\d+"', "", svg, flags=re.I)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    svg = svg.replace(TEXT, "currentColor")
    for number, colour in enumerate(SERIES):
        svg = svg.replace(colour, f"var(--c{number})")
    return svg


def _tips(texts: Sequence[str]) -> str:
    """The name of a line whose markers tell these texts when they are pointed at."""
    return "tips:" + base64.b64encode("\n".join(texts).encode()).decode()


def _with_tips(group: re.Match[str]) -> str:
    texts = iter(base64.b64decode(group[1]).decode().split("\n"))
    head = f'<g id="tips:{group[1]}">'
    marked = re.sub(r"(<use [^>]*)/>", lambda use: f"{use[1]}><title>{escape(next(texts))}</title></use>", group[0])
    return "<g>" + marked.removeprefix(head)


def _label(name: str) -> str:
    """A name as a legend shows it; matplotlib leaves out what begins with an underscore."""
    return ("\u200b" if name.startswith("_") else "") + name[:20]


def depth(ranking: pd.DataFrame, score: str, cost: str, label: str) -> str:
    """Probe score against a cost, a line a backbone through the better pooling of each depth."""
    table = ranking.assign(tap=ranking["column"].str.partition(".")[0])
    best = table.sort_values("score", ascending=False).drop_duplicates(["backbone", "tap"])
    lines = {str(name): rows.sort_values([cost, "multiply_adds"]) for name, rows in best.groupby("backbone", sort=True)}
    said = (", ".join(f"{r['tap']} {r['score']:.3f}" for r in rows.to_dict("records")) for rows in lines.values())
    told = "; ".join(f"{name}: {points}" for name, points in zip(lines, said, strict=True))

    def paint(axes: Axes) -> None:
        for backbone, ordered in lines.items():
            (line,) = axes.plot(ordered[cost], ordered["score"], marker="o", label=_label(backbone))
            line.set_gid(_tips([
                f"{backbone} {row['column']}: {score} {row['score']:.4f}, {row[cost]:,} {label}"
                for row in ordered.to_dict("records")
            ]))  # fmt: skip
            named = ordered if backbone == best["backbone"].iloc[0] else ordered.nlargest(1, "score")
            for row in named.to_dict("records"):
                place = (row[cost], row["score"])
                axes.annotate(str(row["tap"]), place, textcoords="offset points", xytext=(3, 5), fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend()

    return draw(paint, x=label, y=score, said=f"{score} by {label}, from the least to the most. {told}.")


def intervals(
    names: Sequence[str], scores: Sequence[float], errors: Sequence[float], folds: Sequence[Sequence[float]], x: str
) -> str:
    """A score with its 95 % interval a row, the first one on top; small marks are the folds' scores."""
    rows = zip(names, scores, errors, strict=True)
    said = ", ".join(f"{name} {score - 1.96 * error:.4f} to {score + 1.96 * error:.4f}" for name, score, error in rows)

    def paint(axes: Axes) -> None:
        places = np.arange(len(names))[::-1]
        for place, score, error, parts in zip(places, scores, errors, folds, strict=True):
            axes.plot(parts, [place] * len(parts), "|", color=SERIES[1], markersize=9)
            axes.plot([score - 1.96 * error, score + 1.96 * error], [place, place], color=SERIES[0], linewidth=3)
        axes.plot(scores, places, "o", color=SERIES[0], markersize=7)
        axes.set_yticks(places, [str(name)[:24] for name in names])
        axes.set_ylim(-0.6, len(names) - 0.4)

    return draw(paint, x=x, y="", said=f"95 % intervals: {said}.", size=(SIZE[0], 1.0 + 0.34 * len(names)))


def likeness(counts: pd.DataFrame, least: float) -> str:
    """Pairs by likeness (columns likeness, what, pairs), on the scale -log10(1 - likeness), and the threshold."""
    held = counts[counts["pairs"] > 0].groupby("what", sort=False)["likeness"].agg(["min", "max"])
    said = ", ".join(f"{what} from {ends['min']:.4f} to {ends['max']:.4f}" for what, ends in held.iterrows())

    def paint(axes: Axes) -> None:
        for what, rows in counts.groupby("what", sort=False):
            axes.step(-np.log10(1 - rows["likeness"]), rows["pairs"], where="post", label=str(what))
        axes.axvline(-np.log10(1 - least), color=TEXT, linestyle="--", alpha=0.6, label=f"threshold {least:.4f}")
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylim(0, 1.6 * max(1, counts["pairs"].max()))
        axes.set_xticks(range(6), ["0", "0.9", "0.99", "0.999", "0.9999", "1"])
        axes.legend()

    return draw(paint, x="likeness", y="pairs", said=f"Likeness: {said}; the threshold is {least:.4f}.")


def losses(by_fold: pd.DataFrame, mean: pd.DataFrame) -> str:
    """Training and out-of-fold loss by epoch: columns epoch, training, out_of_fold, and fold of the thin lines."""
    told = []
    for column in ("training", "out_of_fold"):
        least = mean.iloc[int(mean[column].argmin())]
        told.append(f"{column.replace('_', ' ')} loss from {mean[column].iloc[0]:.4f} to {mean[column].iloc[-1]:.4f}, "
                    f"least {least[column]:.4f} at epoch {least['epoch']:.0f}")  # fmt: skip

    def paint(axes: Axes) -> None:
        for number, column in enumerate(("training", "out_of_fold")):
            for _, rows in by_fold.groupby("fold"):
                axes.plot(rows["epoch"], rows[column], color=SERIES[number], linewidth=0.7, alpha=0.4)
            label = column.replace("_", " ")
            axes.plot(mean["epoch"], mean[column], color=SERIES[number], marker="o", markersize=3, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return draw(paint, x="epoch", y="loss", said=f"By epoch, mean over the folds: {'; '.join(told)}.")


def _thin(*arrays: np.ndarray) -> list[np.ndarray]:
    rows = np.unique(np.linspace(0, len(arrays[0]) - 1, POINTS).astype(int))
    return [array[rows] for array in arrays]


def roc(curves: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    """Receiver operating characteristic; a curve is its name, the truth bool (n,) and the prediction float (n,)."""
    areas = [roc_auc_score(true, p) for _, true, p in curves]

    def paint(axes: Axes) -> None:
        for (name, true, p), area in zip(curves, areas, strict=True):
            wrong, right, _ = roc_curve(true, p)
            axes.plot(*_thin(wrong, right), label=f"{_label(name)} ({area:.3f})")
        axes.plot([0, 1], [0, 1], color=TEXT, linewidth=0.8, alpha=0.5)
        axes.legend(loc="lower right")

    said = ", ".join(f"{name} {area:.3f}" for (name, *_), area in zip(curves, areas, strict=True))
    return draw(paint, x="false positive rate", y="true positive rate", said=f"Areas below the curves: {said}.")


def precision_recall(curves: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    """Precision by recall, of the same curves as `roc`."""
    means = [average_precision_score(true, p) for _, true, p in curves]

    def paint(axes: Axes) -> None:
        for (name, true, p), mean in zip(curves, means, strict=True):
            precision, recall, _ = precision_recall_curve(true, p)
            axes.plot(*_thin(recall, precision), label=f"{_label(name)} ({mean:.3f})")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="lower left")

    said = ", ".join(f"{name} {mean:.3f}" for (name, *_), mean in zip(curves, means, strict=True))
    return draw(paint, x="recall", y="precision", said=f"Average precisions: {said}.")


def calibration(right: np.ndarray, p: np.ndarray, of: str) -> str:
    """How often a prediction is right against how sure it was; `right` is bool (n,), `p` float (n,)."""
    share, sure = calibration_curve(right, p, n_bins=8, strategy="quantile")

    def paint(axes: Axes) -> None:
        axes.plot(sure, share, marker="o")
        axes.plot([0, 1], [0, 1], color=TEXT, linewidth=0.8, alpha=0.5)

    said = ", ".join(f"{true:.0%} at {p:.0%}" for true, p in zip(share, sure, strict=True))
    return draw(paint, x=f"probability of {of}", y="share that is right", said=f"Right of the predictions: {said}.")


def cloud(x: np.ndarray, y: np.ndarray, names: tuple[str, str], *, diagonal: bool) -> str:
    """Points, 1,500 at most, evenly spread over the rows; with the diagonal, or with the line of zero."""
    rows = np.unique(np.linspace(0, len(x) - 1, CLOUD).astype(int))

    def paint(axes: Axes) -> None:
        axes.scatter(x[rows], y[rows], s=8, alpha=0.5, color=SERIES[0], linewidths=0)
        ends = [float(x.min()), float(x.max())]
        axes.plot(ends, ends if diagonal else [0, 0], color=TEXT, linewidth=0.8, alpha=0.6)

    low, middle, high = np.quantile(y - x if diagonal else y, (0.05, 0.5, 0.95))
    what = f"{names[1]} less {names[0]}" if diagonal else names[1]
    return draw(
        paint, x=names[0], y=names[1], said=f"{what}: median {middle:.4g}, nine in ten from {low:.4g} to {high:.4g}."
    )


def densities(parts: Sequence[tuple[str, np.ndarray]], x: str, ends: tuple[float, float]) -> str:
    """Histograms of several samples over the same bins, each of area one, so that sizes do not matter."""
    bins = np.linspace(*ends, 25).tolist()

    def paint(axes: Axes) -> None:
        for name, part in parts:
            axes.hist(part, bins=bins, density=True, histtype="step", linewidth=1.6, label=name)
        axes.legend()

    quarters = [(name, *np.quantile(part, (0.25, 0.5, 0.75))) for name, part in parts]
    said = "; ".join(
        f"{name}: median {mid:.3g}, half from {low:.3g} to {high:.3g}" for name, low, mid, high in quarters
    )
    return draw(paint, x=x, y="density", said=f"{x}: {said}.")
