"""A submission in the shape of `sample_submission.csv`, or a reason why it cannot be."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from goulot.errors import SubmissionError

Format = Literal["probability", "label", "columns"]


def read_sample(path: Path) -> pd.DataFrame:
    """The sample submission, all cells as text, the id in its first column."""
    if not path.is_file():
        raise SubmissionError(f"{path} is missing; the submission takes its ids, order and columns from it")
    try:
        sample = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise SubmissionError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from error
    if sample.shape[1] < 2:
        raise SubmissionError(f"{path} has {sample.shape[1]} column(s); an id and at least one target are needed")
    return sample


def detect(sample: pd.DataFrame, classes: list[str]) -> Format:
    """What the sample's target columns hold.

    One column of numbers: the probability of the second of two classes, unless every cell is a class. One column of
    text, or of classes: the label. Columns named as the classes: a probability each.
    Raises SubmissionError where it is none of these.
    """
    targets = list(sample.columns[1:])
    if set(targets) == set(classes):
        return "columns"
    cells = set(sample[targets[0]])
    if len(targets) == 1 and len(classes) == 2 and _numeric(cells) and not (cells <= set(classes) and len(cells) > 1):
        return "probability"
    if len(targets) == 1 and cells <= set(classes):
        return "label"
    raise SubmissionError(
        f"sample_submission.csv has the targets {targets[:5]} with cells such as {sorted(cells)[:3]}, which fit none "
        f"of the classes {classes[:5]}; set submit.format to probability, label or columns"
    )


def fill(sample: pd.DataFrame, predictions: pd.DataFrame, classes: list[str], form: Format) -> pd.DataFrame:
    """The sample with its targets replaced; `predictions` has `id` and a column a class.

    Raises SubmissionError where an id is missing, doubled or unknown, or a probability is not finite.
    """
    _check_ids(sample.iloc[:, 0], predictions["id"])
    _check_format(list(sample.columns[1:]), classes, form)
    p = predictions.set_index("id").loc[sample.iloc[:, 0], classes].to_numpy(dtype=float)
    if not np.isfinite(p).all():
        bad = sample.iloc[np.flatnonzero(~np.isfinite(p).all(axis=1))[0], 0]
        raise SubmissionError(f"the prediction for id {bad!r} is not finite")
    filled = sample.copy()
    targets = list(sample.columns[1:])
    if form == "columns":
        order = [classes.index(target) for target in targets]
        filled[targets] = p[:, order]
    elif form == "label":
        filled[targets[0]] = np.array(classes)[p.argmax(1)]
    else:
        filled[targets[0]] = p[:, 1]
    return filled


def _check_format(targets: list[str], classes: list[str], form: Format) -> None:
    if form == "columns" and set(targets) != set(classes):
        raise SubmissionError(
            f"submit.format is columns, but the targets {targets[:5]} are not the classes {classes[:5]}"
        )
    if form != "columns" and len(targets) != 1:
        raise SubmissionError(
            f"submit.format is {form}, which fills one column; there are {len(targets)}: {targets[:5]}"
        )
    if form == "probability" and len(classes) != 2:
        raise SubmissionError(f"submit.format is probability, which two classes have; there are {len(classes)}")


def _check_ids(wanted: "pd.Series[str]", given: "pd.Series[str]") -> None:
    for name, ids in (("sample_submission.csv", wanted), ("the predictions", given)):
        if ids.duplicated().any():
            raise SubmissionError(f"id {ids[ids.duplicated()].iloc[0]!r} occurs twice in {name}")
    missing = wanted[~wanted.isin(given)]
    if len(missing):
        raise SubmissionError(
            f"{len(missing)} ids of sample_submission.csv have no prediction, first {missing.iloc[0]!r}; "
            "were their images quarantined? (data/ingest/quarantine.parquet)"
        )
    unknown = given[~given.isin(wanted)]
    if len(unknown):
        raise SubmissionError(
            f"{len(unknown)} predictions are for ids that sample_submission.csv lacks, first {unknown.iloc[0]!r}"
        )


def _numeric(cells: set[str]) -> bool:
    try:
        return all(np.isfinite(float(cell)) for cell in cells)
    except ValueError:
        return False
