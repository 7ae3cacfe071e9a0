"""Section: the images, their labels and sizes, examples and augmented views."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from goulot import layout
from goulot.reporting.finished import Run
from goulot.reporting.page import Gallery, Picture, Section, Table

CLASSES, EXAMPLES = 8, 10
SIZES = 5
ROWS = 30


def section(run: Run) -> Section:
    """Balance, sizes, a sheet of examples by class, and views beside their originals."""
    train = len(run.known.images)
    lines = [f"{train:,} training and {len(run.manifest) - train:,} test images."]
    views = Picture.of("A few images, each followed by its augmented views", layout.PREVIEW)
    return Section("Data", lines, [_balance(run), _sizes(run.manifest), *_examples(run), views])


def _balance(run: Run) -> Table:
    target, y = run.known.target, run.known.y
    if target.task == "regression":
        numbers = pd.DataFrame(y, columns=target.names).describe().T.rename_axis("number").reset_index()
        return Table.of("Training images by number", numbers.assign(count=numbers["count"].astype(int)))
    counts = pd.Series(run.counts, index=run.kinds)
    if target.task != "ordinal":
        counts = counts.sort_values(ascending=False, kind="stable")
    kind = "label" if target.task == "multilabel" else "class"
    table = counts.rename_axis(kind).reset_index(name="images")
    table["share"] = table["images"] / len(y)
    least = f" (the first {ROWS} of {len(table):,})" if len(table) > ROWS else ""
    shown = table.head(ROWS)
    return Table.of(f"Training images by {kind}{least}", shown, bars=shown["share"].tolist())


def _sizes(manifest: pd.DataFrame) -> Table:
    """The images' widths, heights and modes, the most common first."""
    table = manifest.groupby(["width", "height", "mode"]).size().sort_values(ascending=False, kind="stable")
    shown = table.head(SIZES).reset_index(name="images")
    ranges = ", ".join(f"{side} {manifest[side].min():,} to {manifest[side].max():,}" for side in ("width", "height"))
    most = f"the {SIZES} most common of {len(table):,}; " if len(table) > SIZES else ""
    shares = (shown["images"] / len(manifest)).tolist()
    return Table.of(f"Sizes of the images in pixels ({most}{ranges})", shown, bars=shares)


def _examples(run: Run) -> Iterator[Gallery]:
    """Training images drawn at random, of the most frequent classes where there are many."""
    order = np.arange(len(run.kinds))
    if len(order) > CLASSES and run.known.target.task != "ordinal":
        order = np.argsort(-run.counts, kind="stable")
    rng = np.random.default_rng(0)
    more = f" (the first {CLASSES} of {len(order):,} are shown)" if len(order) > CLASSES else ""
    for kind in order[:CLASSES]:
        rows = np.flatnonzero(run.inside(kind))
        shown = np.sort(rng.choice(rows, min(EXAMPLES, len(rows)), replace=False))
        ids = run.known.images["image_id"].iloc[shown].tolist()
        if ids:
            caption = f"Examples of {run.kinds[kind]}, {len(rows):,} images{more}"
            yield Gallery(caption, f"{run.kinds[kind]}: training image", run.thumbnails(ids, [""] * len(ids), side=96))
