"""`goulot split`: the one fold ledger that everything fitted later obeys."""

import logging

import numpy as np
from pydantic import Field

from goulot import folds, layout, targets
from goulot.artifacts import read_table, write_table
from goulot.params import Section

log = logging.getLogger("goulot")


class Params(Section):
    """How many folds, and which of the many possible deals."""

    folds: int = Field(
        5, ge=3, le=50, description="at least 3: what a fold stacks is chosen by a cross-validation over the others"
    )
    seed: int = Field(0, ge=0)


def run(params: Params) -> None:
    """Write folds.parquet: image_id, group and fold of every training image."""
    manifest, target = read_table(layout.MANIFEST), targets.read()
    groups = read_table(layout.GROUPS)
    # The user's own groups are part of those that `audit` made.
    manifest = manifest.drop(columns="group", errors="ignore")
    train = manifest[manifest["split"] == "train"].merge(groups, on="image_id", validate="one_to_one")
    y, group = target.truth(train), train["group"].to_numpy()
    fold = folds.deal(y, group, task=target.task, folds=params.folds, seed=params.seed)
    write_table(layout.FOLDS, train[["image_id", "group"]].assign(fold=fold))
    log.info(
        "dealt %s training images into %d folds of %s",
        f"{len(train):,}",
        params.folds,
        ", ".join(map(str, np.bincount(fold))),
    )
    scarce = folds.scarce(y, group, task=target.task, folds=params.folds)
    if len(scarce):
        log.warning(
            "%d of %d %s occur in fewer groups of images than split.folds = %d, first %r: where none is left to learn "
            "from, the prediction is 0",
            len(scarce),
            len(target.names),
            "classes" if target.exclusive else "labels",
            params.folds,
            target.names[scarce[0]],
        )
