"""ELPV as a competition: is this solar cell defective?

2,624 electroluminescence images of solar cells, each with a probability of being defective in {0, 1/3, 2/3, 1}
and a type (mono- or polycrystalline). Buerhop-Lutz et al., "A benchmark for visual identification of defective
solar cells in electroluminescence imagery", EU PVSEC 2018; the images are CC BY-NC-SA 4.0 and stay in the
package `elpv-dataset`, from which `write` lays them out.
"""

import shutil
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from goulot.artifacts import write_table
from goulot.errors import DataError

THRESHOLD = 0.5
TEST_SHARE = 0.25
TARGET = "label"


def write(folder: Path, *, seed: int, limit: int | None) -> None:
    """Write train.csv, test.csv, sample_submission.csv, train/ and test/ as a Kaggle download has them.

    The answers to the test set are not written: `answers` derives them for scoring alone.
    """
    lay_out(folder, partition(seed=seed, limit=limit), known=["type"])


def lay_out(folder: Path, cells: pd.DataFrame, *, known: list[str]) -> None:
    """Write the tables and images of cells that are dealt; the columns `known` are in train.csv, the type in both."""
    train, test = (cells[cells.split == part] for part in ("train", "test"))
    write_table(folder / "train.csv", train[["id", *known]].assign(label=_labels(train)))
    write_table(folder / "test.csv", test[["id", "type"]])
    write_table(folder / "sample_submission.csv", test[["id"]].assign(label=0.5))
    for cell in cells.itertuples():
        target = folder / str(cell.split) / f"{cell.id}.png"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(str(cell.path), target)


def answers(*, seed: int, limit: int | None) -> pd.DataFrame:
    """The test set's true labels, columns `id` and `label` (int, 1 = defective), for scoring alone."""
    return hidden(partition(seed=seed, limit=limit))


def hidden(cells: pd.DataFrame) -> pd.DataFrame:
    """The answers of cells that are dealt."""
    test = cells[cells.split == "test"]
    return test[["id"]].assign(label=_labels(test)).reset_index(drop=True)


def partition(*, seed: int, limit: int | None) -> pd.DataFrame:
    """All cells in file order with id, path, type, probability and split, stratified by probability and type.

    `limit` keeps that many cells, the strata in proportion, for a quick look.
    """
    cells = read()
    rng = np.random.default_rng(seed)
    strata = [part.index.to_numpy() for _, part in cells.groupby(["probability", "type"])]
    kept = [rng.permutation(rows) for rows in strata]
    if limit is not None:
        kept = [rows[: max(4, round(len(rows) * limit / len(cells)))] for rows in kept]
    test = np.concatenate([rows[: round(len(rows) * TEST_SHARE)] for rows in kept])
    cells["split"] = np.where(cells.index.isin(test), "test", "train")
    return cells.loc[np.sort(np.concatenate(kept))].reset_index(drop=True)


def read() -> pd.DataFrame:
    """All cells in file order: id, path, probability, type. Raises DataError where the package is not there."""
    if find_spec("elpv_dataset") is None:
        raise DataError("the sample elpv needs the package elpv-dataset; pip install -e '.[sample]'")
    root = Path(str(resources.files("elpv_dataset"))) / "data"
    cells = pd.read_csv(root / "labels.csv", sep=r"\s+", names=["path", "probability", "type"])
    cells.insert(0, "id", cells.path.str.extract(r"(\w+)\.png$")[0])
    return cells.assign(path=[root / path for path in cells.path])


def _labels(cells: pd.DataFrame) -> "pd.Series[int]":
    return (cells.probability >= THRESHOLD).astype(int)
