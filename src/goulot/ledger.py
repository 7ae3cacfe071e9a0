"""What learners are fitted on and predict: rows of views, by the one fold ledger."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from goulot import layout
from goulot.artifacts import read_json, read_table
from goulot.errors import LedgerError


@dataclass(frozen=True)
class Ledger:
    """Every view of every image, with what is known of it.

    rows: image_id, view, image (number), y (class number, -1 in the test set), fold (-1 in the test set), group.
    images: one row an image in the same numbering: image_id, id, split, y, fold.
    """

    rows: pd.DataFrame
    images: pd.DataFrame
    classes: list[str]

    @property
    def folds(self) -> list[int]:
        """The numbers of the folds."""
        return sorted(set(self.images["fold"]) - {-1})


def read() -> Ledger:
    """Join manifest, folds and view plan. Raises LedgerError if a training image has no fold or no view."""
    manifest, classes = read_table(layout.MANIFEST), read_json(layout.CLASSES)
    folds = read_table(layout.FOLDS)
    images = manifest[["image_id", "id", "split", "label"]].merge(
        folds, on="image_id", how="left", validate="one_to_one"
    )
    lost = images[(images["split"] == "train") & images["fold"].isna()]
    if len(lost):
        raise LedgerError(
            f"{len(lost)} training images have no fold, first {lost['image_id'].iloc[0]}; dvc repro split"
        )
    numbers = {label: number for number, label in enumerate(classes)}
    images = images.assign(
        y=images["label"].map(numbers).fillna(-1).astype(int),
        fold=images["fold"].fillna(-1).astype(int), group=images["group"].fillna(-1).astype(int),
        image=np.arange(len(images)),
    )  # fmt: skip
    rows = read_table(layout.VIEWS)[["image_id", "view"]].merge(
        images[["image_id", "image", "y", "fold", "group"]], on="image_id", validate="many_to_one"
    )
    if rows["image_id"].nunique() != len(images):
        raise LedgerError(
            f"the view plan knows {rows['image_id'].nunique()} of {len(images)} images; dvc repro augment"
        )
    return Ledger(rows, images[["image_id", "id", "split", "y", "fold"]], classes)
