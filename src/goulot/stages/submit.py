"""`goulot submit`: the CSV, exactly as sample_submission.csv wants it."""

import logging
import shutil
from typing import Literal

from pydantic import Field

from goulot import faults, layout, metrics, submission, targets
from goulot.artifacts import read_json, read_table, write_table
from goulot.decisions import Rule
from goulot.errors import SubmissionError
from goulot.params import Section

log = logging.getLogger("goulot")


class Params(Section):
    """How predictions are written."""

    format: Literal["auto", "probability", "label", "columns", "top", "list", "number"] = Field(
        "auto",
        description="auto reads it off sample_submission.csv; columns is one for each class, label or number, "
        "top the likeliest labels in one cell, list all labels that apply in one cell",
    )


def run(params: Params) -> None:
    """Write submission.csv, or nothing at all where it would be refused."""
    shutil.rmtree(layout.SUBMIT, ignore_errors=True)
    target, rule = targets.read(), read_json(layout.BLEND_RULE)
    metric = metrics.find(rule["metric"])
    sample = submission.read_sample(layout.SAMPLE_SUBMISSION)
    kind = submission.detect(sample, target, metric) if params.format == "auto" else params.format
    form = submission.form(sample, target, metric, kind)
    ids = read_table(layout.MANIFEST)[["image_id", "id"]]
    rows = read_table(layout.BLEND_TEST).merge(ids, on="image_id", validate="one_to_one")
    decide = Rule(rule["kind"], rule["values"])
    filled = submission.fill(sample, rows["id"].to_list(), rows[target.outputs].to_numpy(), target, form, decide)
    found = faults.find(faults.parse(filled.to_csv(index=False)), sample, target, form)
    if found:
        raise SubmissionError(f"the submission would be refused, for {len(found)} reason(s); the first: {found[0]}")
    write_table(layout.SUBMISSION, filled)
    log.info("wrote %s: %s rows, %s", layout.SUBMISSION, f"{len(filled):,}", kind)
