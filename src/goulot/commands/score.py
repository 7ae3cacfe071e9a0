"""`goulot score`: a submission against a solution; a bundled sample's answers are derived, no stage reads them."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from goulot import layout, metrics, params, samples, scoring, submission, targets
from goulot.commands.check_submission import expected
from goulot.errors import GoulotError, SubmissionError
from goulot.metrics import Metric
from goulot.stages import fetch
from goulot.submission import Form
from goulot.targets import Target

CODES = Target("binary", ["0", "1"])


def run(path: Path, solution: Path | None) -> None:
    """Print the scores of the submission."""
    settings = params.load("fetch", fetch.Params)
    kind, _, name = settings.source.partition(":")
    if solution is None and kind != "sample":
        raise GoulotError(
            f"fetch.source is {settings.source}; only a bundled sample's answers are known here: give --solution FILE, "
            "a CSV with the submission's columns and the truth in them"
        )
    if solution is None:
        known = targets.read() if layout.TARGET.is_file() else CODES
        answers = samples.find(name).answers(seed=settings.seed, limit=settings.limit)
        scores = score(path, answers, known if set(known.names) == set(CODES.names) else CODES)
        title = f"the hidden answers of {settings.source}"
    else:
        scores, title = _score(path, _read(solution), *expected()), str(solution)
    table = Table("metric", "score", title=f"{path} against {title}")
    for metric, value in scores.items():
        table.add_row(metrics.find(metric).title, f"{value:.4f}")
    Console().print(table)


def score(path: Path, answers: pd.DataFrame, target: Target = CODES) -> dict[str, float]:
    """Every metric of a binary submission (an id column, a probability); `answers` has id and label (0 or 1)."""
    rows = _read(path)
    solution = answers.astype(str).set_axis(list(rows.columns[:2]), axis=1)
    return _score(
        path, solution, target, Form("probability", [str(rows.columns[1])], target.names), metrics.find("log_loss")
    )


def _score(path: Path, solution: pd.DataFrame, target: Target, form: Form, metric: Metric) -> dict[str, float]:
    rows = _read(path)
    wanted = solution.iloc[:, 0]
    given = rows.iloc[:, 0]
    wrong = [*wanted[~wanted.isin(given)], *given[~given.isin(wanted) | given.duplicated()]]
    if wrong:
        raise SubmissionError(f"{path}: {len(wrong)} ids are missing, unknown or doubled, first {wrong[0]!r}")
    return scoring.score(rows, solution, target, form, metric)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SubmissionError(f"{path} is not there; dvc repro writes {layout.SUBMISSION}")
    return submission.read_sample(path)
