"""What learners are fitted on and predict: rows of views, by the one fold ledger."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from goulot import layout, truth
from goulot.artifacts import read_table
from goulot.errors import LedgerError
from goulot.truth import Truth


@dataclass(frozen=True)
class Ledger:
    """Every view of every image, with what is known of the images.

    rows: image_id, view, image (the image's place in `truth`), fold (-1 in the test set), group.
    """

    rows: pd.DataFrame
    truth: Truth

    @property
    def y(self) -> np.ndarray:
        """The rows' truth."""
        return np.asarray(self.truth.y[self.rows["image"].to_numpy()])

    @property
    def folds(self) -> list[int]:
        """The numbers of the folds."""
        return sorted(set(self.truth.fold.tolist()) - {-1})

    @property
    def by_image(self) -> "Ledger":
        """A row an image, that of its first view."""
        return Ledger(self.rows.drop_duplicates("image", ignore_index=True), self.truth)


def read() -> Ledger:
    """Join the images with the view plan. Raises LedgerError if an image has no view."""
    known = truth.read()
    images = known.images.assign(image=np.arange(len(known.images)))
    rows = read_table(layout.VIEWS)[["image_id", "view"]].merge(
        images[["image_id", "image", "fold", "group"]], on="image_id", validate="many_to_one"
    )
    if rows["image_id"].nunique() != len(images):
        raise LedgerError(
            f"the view plan knows {rows['image_id'].nunique()} of {len(images)} images; dvc repro augment"
        )
    return Ledger(rows, known)
