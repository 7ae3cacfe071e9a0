"""The images with their truth, fold and group: the one place where manifest, target and folds are joined."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from goulot import layout, targets
from goulot.artifacts import read_table
from goulot.errors import LedgerError
from goulot.targets import Target


@dataclass(frozen=True)
class Truth:
    """Images and what is known of them.

    images: image_id, id, split, fold and group (-1 in the test set), in the manifest's order.
    y: their truth as `Target.truth` gives it, int (images,) or float (images, names).
    """

    images: pd.DataFrame
    y: np.ndarray
    target: Target

    @property
    def train(self) -> "Truth":
        """The training images alone."""
        inside = (self.images["split"] == "train").to_numpy()
        return Truth(self.images[inside].reset_index(drop=True), self.y[inside], self.target)

    @property
    def fold(self) -> np.ndarray:
        """The images' folds, int (images,)."""
        return self.images["fold"].to_numpy()


def read() -> Truth:
    """All images. Raises LedgerError if a training image has no fold or no truth."""
    manifest, target = read_table(layout.MANIFEST), targets.read()
    images = manifest[["image_id", "id", "split"]].merge(
        read_table(layout.FOLDS), on="image_id", how="left", validate="one_to_one"
    )
    train, y = images["split"] == "train", target.truth(manifest)
    lost = images[train & images["fold"].isna()]
    if len(lost):
        raise LedgerError(
            f"{len(lost)} training images have no fold, first {lost['image_id'].iloc[0]}; dvc repro split"
        )
    unknown = images[train & (y < 0 if target.exclusive else np.isnan(y).any(axis=1))]
    if len(unknown):
        raise LedgerError(
            f"{len(unknown)} training images have no truth, first {unknown['image_id'].iloc[0]}; dvc repro ingest"
        )
    numbers = {name: images[name].fillna(-1).astype(int) for name in ("fold", "group")}
    return Truth(images.assign(**numbers)[["image_id", "id", "split", "fold", "group"]], y, target)
