"""Does `rank` say what a column is worth? Each column's measures against what a learner makes of it in the end.

    python benchmarks/ranking.py [--workspace .]

In a workspace in which the sample was run up to `rank`. Each column alone is given to the learner `logistic`, cross-
fitted on the ledger, its test predictions scored by the sample's hidden answers, which no stage reads. Printed are
Kendall's rank correlations of the measures with those final scores, and the scores of stacks: all columns, those that
`rank` chose, and as many channels of those that LogME puts first or that cost most; and what `select` does to the
learner on the stack that `rank` chose.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau
from threadpoolctl import threadpool_limits

from goulot import crossfit, features, layout, ledger, metrics, params, ranking, samples, selection
from goulot.learners import Factory, find
from goulot.stages import fetch

SETTINGS = {"kind": "logistic", "views": "mean", "C": 0.005}
SHARES = (0.5, 0.25, 0.1)
MEASURES = {"score": "probe", "knn": "nearest neighbours", "logme": "LogME", "multiply_adds": "size"}


def main() -> None:
    """Score every column and the stacks, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path())
    os.chdir(parser.parse_args().workspace)
    table = pd.read_csv(layout.RANKING)
    found = [scores([pair]) for pair in zip(table["backbone"], table["column"], strict=True)]
    table = table.join(pd.DataFrame(found))
    print(table[["backbone", "column", "score", "knn", "logme", "oof", "test"]].to_string(index=False))
    print("\nKendall's tau of a measure with the column's log-loss, out of fold and on the test part (1: same order)")
    for measure, title in MEASURES.items():
        taus = [kendalltau(table[measure], -table[judge]).statistic for judge in ("oof", "test")]
        print(f"{title:20}{taus[0]:6.2f}{taus[1]:8.2f}")
    print("\nlog-loss of a stack, out of fold and on the test part")
    budget = ranking.Budget(params.read()["rank"]["max_channels"])
    stacks = {"chosen by rank": features.read_choice(layout.CHOICE)[ranking.ALL]}
    for measure in ("logme", "multiply_adds"):
        columns = ranking.choose(table, measure, budget)
        stacks[f"chosen by {MEASURES[measure]}"] = columns
    stacks["all"] = list(zip(table["backbone"], table["column"], strict=True))
    for title, columns in stacks.items():
        values = scores(columns)
        print(f"{title:20}{values['oof']:8.4f}{values['test']:8.4f}   {len(columns)} columns", flush=True)
    for share in SHARES:
        values = scores(stacks["chosen by rank"], share)
        print(f"{f'select: {share:g} of it':20}{values['oof']:8.4f}{values['test']:8.4f}", flush=True)


def scores(columns: Sequence[tuple[str, str]], share: float = 1.0) -> dict[str, float]:
    """The learner's log-loss on a share of these columns' features: out of fold, and on the test part."""
    every = ledger.read()
    X = features.Features(every.rows).means(columns)
    learner = find("learn.learners.logistic", SETTINGS)
    make: Factory = partial(selection.Selected, learner.make, share) if share < 1 else learner.make
    with threadpool_limits(2):
        made = crossfit.cross_fit(
            make, every.by_image, lambda _fold: X, folds=every.folds, seed=0, threads=2
        )  # fmt: skip
    settings = params.load("fetch", fetch.Params)
    kind, _, name = settings.source.partition(":")
    if kind != "sample":
        sys.exit(f"fetch.source is {settings.source}; only a sample has hidden answers")
    answers = samples.find(name).answers(seed=settings.seed, limit=settings.limit)
    images = every.truth.images
    test = images[images["split"] == "test"]["image_id"].reset_index(drop=True)
    y = answers.set_index("test/" + answers["id"].astype(str))["label"].loc[test].to_numpy(dtype=int)
    judge = metrics.METRICS["log_loss"].score
    return {"oof": judge(every.truth.train.y, made.oof), "test": judge(np.asarray(y), made.test)}


if __name__ == "__main__":
    main()
