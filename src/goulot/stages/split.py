"""`goulot split`: the one fold ledger that everything fitted later obeys."""

import logging

from pydantic import Field

from goulot import folds, layout
from goulot.artifacts import read_table, write_table
from goulot.params import Section

log = logging.getLogger("goulot")


class Params(Section):
    """How many folds, and which of the many possible deals."""

    folds: int = Field(5, ge=2, le=50)
    seed: int = Field(0, ge=0)


def run(params: Params) -> None:
    """Write folds.parquet: image_id, group and fold of every training image."""
    manifest = read_table(layout.MANIFEST)
    groups = read_table(layout.GROUPS)
    train = manifest[manifest["split"] == "train"].merge(groups, on="image_id", validate="one_to_one")
    fold = folds.deal(train["label"], train["group"], folds=params.folds, seed=params.seed)
    write_table(layout.FOLDS, train[["image_id", "group"]].assign(fold=fold))
    sizes = train.groupby(fold).size().tolist()
    log.info(
        "dealt %s training images into %d folds of %s",
        f"{len(train):,}",
        params.folds,
        ", ".join(map(str, sizes)),
    )
