"""`goulot score`: a bundled sample's submission against the answers that no stage reads."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from goulot import metrics, params, samples
from goulot.errors import GoulotError, SubmissionError
from goulot.stages import fetch


def run(path: Path) -> None:
    """Print every metric of the submission."""
    settings = params.load("fetch", fetch.Params)
    kind, _, name = settings.source.partition(":")
    if kind != "sample":
        raise GoulotError(f"fetch.source is {settings.source}; only a bundled sample's answers are known here")
    scores = score(path, samples.find(name).answers(seed=settings.seed, limit=settings.limit))
    table = Table("metric", "score", title=f"{path} against the hidden answers of {settings.source}")
    for metric, value in scores.items():
        table.add_row(metrics.METRICS[metric].title, f"{value:.4f}")
    Console().print(table)


def score(path: Path, answers: pd.DataFrame) -> dict[str, float]:
    """Every metric of a binary submission (an id column, a probability); `answers` has id and label (0 or 1)."""
    if not path.is_file():
        raise SubmissionError(f"{path} is not there; dvc repro writes data/submit/submission.csv")
    rows = pd.read_csv(path, dtype={0: str})
    rows = rows.set_axis(["id", "p", *rows.columns[2:]], axis=1)
    both = answers.merge(rows, on="id", how="outer", indicator=True, validate="one_to_one")
    if (both["_merge"] != "both").any() or both["p"].isna().any():
        wrong = both.loc[(both["_merge"] != "both") | both["p"].isna(), "id"]
        raise SubmissionError(
            f"{path}: {len(wrong)} ids are missing, unknown or without a value, first {wrong.iloc[0]!r}"
        )
    p = both["p"].to_numpy(dtype=float)
    return metrics.every(both["label"].to_numpy(dtype=int), pd.DataFrame({0: 1 - p, 1: p}).to_numpy())
