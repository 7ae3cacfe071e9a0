"""Section: what would be sent, whether it fits, and whether the test set looks like the training set."""

import pandas as pd

from goulot import layout
from goulot.artifacts import read_json, read_table
from goulot.params import read as read_params
from goulot.reporting import drift
from goulot.reporting.finished import Run
from goulot.reporting.page import Listing, Section, Table


def section(run: Run, rows: int) -> Section:
    """The first rows, the outcome of the check, the commands, and the predictions beside the out-of-fold ones."""
    if not layout.SUBMISSION.is_file():
        return Section("Submission", ["There is no test set, and so nothing to submit."], [])
    written = pd.read_csv(layout.SUBMISSION, dtype=str, keep_default_na=False)
    filled = read_json(layout.metrics(layout.SUBMIT))["filled_by_prior"]
    test = read_table(layout.BLEND_TEST)[run.known.target.outputs].to_numpy(dtype=float)
    facts = [
        ("file", str(layout.SUBMISSION)), ("rows", f"{len(written):,}"),
        ("check", "passed: ids, order, columns and values are as the sample submission has them"),
        ("filled by the prior", f"{filled:,} rows"),
    ]  # fmt: skip
    listing = Listing("What would be sent", facts, ["goulot check-submission", _send()])
    first = Table.of("Its first rows", written.head(rows))
    return Section("Submission", [], [listing, first, *(drift.compare(run, test) if len(test) else ())])


def _send() -> str:
    kaggle = str(read_params()["fetch"]["source"]).startswith("kaggle:")
    return "goulot send" if kaggle else "goulot send --competition <its name on Kaggle>"
