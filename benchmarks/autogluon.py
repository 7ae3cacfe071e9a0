"""The same stacked features for AutoGluon Tabular, with ten times our time: whose log-loss is lower?

    python benchmarks/autogluon.py [--workspace .] [--times 10] [--environment .goulot/autogluon]

In a workspace in which the sample was run up to `blend`. AutoGluon (`best_quality`) is installed into an environment
of its own and given the columns that `rank` chose, averaged over an image's views, of the training images. Ours is the
blend of all learners on the same features, without what was fine-tuned. Both are scored on the sample's test part,
whose answers no stage reads. Our time is what `learn` and `blend` noted when they last ran here.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from goulot import blending, features, layout, ledger, metrics, params, samples
from goulot.artifacts import read_table
from goulot.reporting import costs
from goulot.stages import blend, fetch

PACKAGE = "autogluon.tabular[lightgbm,catboost,xgboost,fastai,ray]~=1.6.0"
FIT = """
import sys
import pandas as pd
from autogluon.tabular import TabularPredictor
train, test, seconds = pd.read_parquet("train.parquet"), pd.read_parquet("test.parquet"), float(sys.argv[1])
predictor = TabularPredictor(label="label", eval_metric="log_loss", path="models", verbosity=1)
predictor.fit(train, presets="best_quality", time_limit=seconds)
predictor.predict_proba(test).to_parquet("predicted.parquet")
print(predictor.leaderboard(silent=True)[["model", "score_val"]].head(5).to_string(index=False))
"""


def main() -> None:
    """Install, fit, score both, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--times", type=float, default=10, help="AutoGluon's time in terms of ours")
    parser.add_argument("--environment", type=Path, default=Path(".goulot/autogluon"))
    args = parser.parse_args()
    os.chdir(args.workspace)
    python = installed(args.environment)
    learners = params.members("learn", "learners")
    took = [costs.seconds(stage) for stage in ("blend", *(f"learn@{name}" for name in learners))]
    if None in took:
        sys.exit("a learner's time is not known here, since it came from a cache; dvc repro -f learn")
    seconds = sum(value for value in took if value is not None)
    every = ledger.read()
    images, known = every.truth.images, every.truth.train
    X = features.Features(every.rows).means(features.read_choice(layout.CHOICE)["all"])
    table = pd.DataFrame(X, columns=[f"f{number}" for number in range(X.shape[1])])
    inside = (images["split"] == "train").to_numpy()
    place = args.environment / "run"
    place.mkdir(exist_ok=True)
    table[inside].assign(label=known.y).to_parquet(place / "train.parquet", index=False)
    table[~inside].to_parquet(place / "test.parquet", index=False)
    start = time.monotonic()
    subprocess.run([python, "-c", FIT, str(args.times * seconds)], cwd=place, check=True)
    theirs_took = time.monotonic() - start
    truth = answers(images[~inside]["image_id"])
    theirs = pd.read_parquet(place / "predicted.parquet").to_numpy()
    print(
        f"{X.shape[1]:,} features of {inside.sum():,} images; log-loss, ROC AUC and accuracy on {len(truth):,} others"
    )
    for title, p, spent in (("goulot", ours(learners, images, inside), seconds), ("AutoGluon", theirs, theirs_took)):
        scores = [metrics.METRICS[name].score(truth, p) for name in ("log_loss", "roc_auc")]
        accuracy = float((p.argmax(1) == truth).mean())
        print(f"{title:12}{scores[0]:8.4f}{scores[1]:8.4f}{accuracy:8.4f}   {spent:,.0f} s")


def installed(environment: Path) -> Path:
    """AutoGluon's own interpreter."""
    python = environment.resolve() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE, "pyarrow"], check=True)
    return python


def ours(learners: list[str], images: pd.DataFrame, inside: np.ndarray) -> np.ndarray:
    """The blend of the learners alone, of the test images."""
    known = ledger.read().truth.train
    stacks = [
        np.stack([read_table(layout.learned(name) / f"{part}.parquet").set_index("image_id")[known.target.outputs]
                  .loc[ids].to_numpy() for name in learners])
        for part, ids in (("oof", images[inside]["image_id"]), ("test", images[~inside]["image_id"]))
    ]  # fmt: skip
    settings = params.load("blend", blend.Params)
    aim = blending.Aim(metrics.of(settings.metric, known.target), known.target, settings)
    return blending.fit(stacks[0], known.y, known.fold, aim).of(stacks[1])


def answers(image_ids: "pd.Series[str]") -> np.ndarray:
    """The hidden answers, in the order of the images."""
    settings = params.load("fetch", fetch.Params)
    kind, _, name = settings.source.partition(":")
    if kind != "sample":
        sys.exit(f"fetch.source is {settings.source}; only a sample has hidden answers")
    found = samples.find(name).answers(seed=settings.seed, limit=settings.limit)
    return found.set_index("test/" + found["id"].astype(str))["label"].loc[image_ids].to_numpy(dtype=int)


if __name__ == "__main__":
    main()
