"""`goulot submit`: the CSV, exactly as sample_submission.csv wants it."""

import logging
import shutil
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from goulot import faults, layout, metrics, submission, targets
from goulot.artifacts import read_json, read_table, write_json, write_table
from goulot.decisions import Rule
from goulot.errors import SubmissionError
from goulot.params import Section
from goulot.targets import Target

NAMED = 5  # images that an error names

log = logging.getLogger("goulot")


class Params(Section):
    """How predictions are written."""

    format: Literal["auto", "probability", "label", "columns", "top", "list", "number"] = Field(
        "auto",
        description="auto reads it off sample_submission.csv; columns is one for each class, label or number, "
        "top the likeliest labels in one cell, list all labels that apply in one cell",
    )
    missing: Literal["refuse", "prior"] = Field(
        "refuse",
        description="a test image that could not be used; prior predicts the training set's frequencies or means",
    )


def run(params: Params) -> None:
    """Write submission.csv, or nothing at all where it would be refused or there is no test set."""
    shutil.rmtree(layout.SUBMIT, ignore_errors=True)
    sample = submission.read_sample(layout.SAMPLE_SUBMISSION)
    if sample.empty:
        write_json(layout.metrics(layout.SUBMIT), {"rows": 0, "filled_by_prior": 0})
        log.warning("there is nothing to submit: ingest.test is null")
        return
    target, rule = targets.read(), read_json(layout.BLEND_RULE)
    metric = metrics.find(rule["metric"])
    kind = submission.detect(sample, target, metric) if params.format == "auto" else params.format
    form = submission.form(sample, target, metric, kind)
    manifest = read_table(layout.MANIFEST)
    rows = read_table(layout.BLEND_TEST).merge(manifest[["image_id", "id"]], on="image_id", validate="one_to_one")
    missing = _missing(params, sample)
    ids, p = [*rows["id"], *missing], np.vstack([rows[target.outputs], _prior(manifest, target, len(missing))])
    filled = submission.fill(sample, ids, p, target, form, Rule(rule["kind"], rule["values"]))
    found = faults.find(faults.parse(filled.to_csv(index=False)), sample, target, form)
    if found:
        raise SubmissionError(f"the submission would be refused, for {len(found)} reason(s); the first: {found[0]}")
    write_table(layout.SUBMISSION, filled)
    write_json(layout.metrics(layout.SUBMIT), {"rows": len(filled), "filled_by_prior": len(missing)})
    log.info("wrote %s: %s rows, %s", layout.SUBMISSION, f"{len(filled):,}", kind)
    if missing:
        log.warning("%d of them have no usable image and got the training set's prior", len(missing))


def _missing(params: Params, sample: pd.DataFrame) -> list[str]:
    """The ids of test images that were set aside but are asked for. Raises SubmissionError unless they are filled."""
    aside = read_table(layout.QUARANTINE)
    aside = aside[(aside["split"] == "test") & submission.asked(aside["id"], sample)]
    if len(aside) and params.missing == "refuse":
        named = "; ".join(f"{file} ({reason})" for file, reason in aside[["file", "reason"]].head(NAMED).to_numpy())
        more = f" and {len(aside) - NAMED} more in {layout.QUARANTINE}" if len(aside) > NAMED else ""
        raise SubmissionError(
            f"{len(aside)} test image(s) could not be used and have no prediction: {named}{more}; mend them, or set "
            "submit.missing to prior, which predicts the training set's class frequencies, or means, for them"
        )
    return aside["id"].to_list()


def _prior(manifest: pd.DataFrame, target: Target, count: int) -> np.ndarray:
    """What the training set says of an image that nothing is known of, float (count, names)."""
    y = target.truth(manifest[manifest["split"] == "train"])
    flags = np.eye(len(target.names))[y] if target.exclusive else y
    return np.tile(flags.mean(axis=0), (count, 1))
