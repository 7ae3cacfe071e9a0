"""The sample's test scores with the parameters of params.yaml, over several seeds of its split.

    python benchmarks/sample_scores.py [--seeds 5] [--jobs 1] [--source sample:elpv-modules] [--modules] [--preset P]

Each seed is a run of its own in a temporary folder, from `goulot fetch` to `goulot score`. Features come from the
shared store, so that they are computed once: an image's features do not depend on which side of the split it fell.
Nothing is tuned on the test part: no stage reads its answers. Beside the blend's scores stands the best log-loss that a
single member reaches on the test part, and which that is.

With `--modules` there is one run, on all 44 modules as training images and none to predict, folds holding out whole
modules; the scores are those of the folds, by the blend that never saw them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from goulot import decisions, metrics, samples
from goulot.commands import preset
from goulot.commands.score import score
from goulot.samples import elpv, elpv_modules
from goulot.targets import Target

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the seeds and print a line each, then mean and standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="seeds that run side by side")
    parser.add_argument("--source", choices=["sample:elpv", "sample:elpv-modules"], default="sample:elpv")
    parser.add_argument("--modules", action="store_true", help="the folds of all modules instead of test parts")
    parser.add_argument("--preset", choices=preset.NAMES, help="else params.yaml as it is")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder, to look into them")
    args = parser.parse_args()
    rows, what = [], "folds" if args.modules else "seeds"
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        start = time.monotonic()
        if args.modules:
            rows = run_modules(folder / "modules", args.preset)
            print(f"all modules ({time.monotonic() - start:.0f} s)", flush=True)
        else:
            with ThreadPoolExecutor(args.jobs) as jobs:
                seeds = jobs.map(lambda n: run_seed(folder / str(n), args.source, n, args.preset), range(args.seeds))
                for seed, scores in enumerate(seeds):
                    rows.append(scores)
                    print(
                        f"seed {seed}: {_said(scores)} ({time.monotonic() - start:.0f} s since the start)", flush=True
                    )
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        print(f"{metrics.METRICS[name].title}: {values.mean():.4f} +- {values.std(ddof=1):.4f}, {len(values)} {what}")


def _said(scores: dict[str, float]) -> str:
    return ", ".join(f"{metrics.METRICS[name].title} {value:.4f}" for name, value in scores.items())


def run_seed(folder: Path, source: str, seed: int, name: str | None) -> dict[str, float]:
    """All stages with that seed of the split; the scores on the test part."""
    params = settings(name)
    params["fetch"] |= {"source": source, "seed": seed}
    if source == "sample:elpv-modules":
        params["ingest"]["train"]["group"] = "group"
    members = run(folder, params)
    sample = samples.find(source.partition(":")[2])
    answers = sample.answers(seed=seed, limit=None)
    alone = {"@".join(member): _log_loss(folder / "data" / member[0] / member[1], answers) for member in members}
    best = min(alone, key=alone.__getitem__)
    print(f"    seed {seed}: the best member on the test part is {best}, log-loss {alone[best]:.4f}", flush=True)
    return score(folder / "data/submit/submission.csv", answers)


def run_modules(folder: Path, name: str | None) -> list[dict[str, float]]:
    """All stages on all modules; the scores of each fold."""
    laid = folder / "all"
    laid.mkdir(parents=True)
    elpv.lay_out(laid, elpv_modules.partition(seed=0, limit=None).assign(split="train"), known=["type", "group"])
    (laid / "sample_submission.csv").unlink()  # of no rows, since there is nothing to predict
    params = settings(name)
    params["fetch"] |= {"source": f"path:{laid}", "watch": str(laid)}
    params["ingest"]["train"]["group"] = "group"
    params["ingest"]["test"] = None
    run(folder, params)
    oof = pd.read_parquet(folder / "data/blend/oof.parquet").set_index("image_id")
    cells = pd.read_csv(laid / "train.csv", dtype={"id": str})
    oof["truth"] = cells.set_index("train/" + cells["id"])["label"].loc[oof.index]
    target = Target("binary", ["0", "1"])
    return [decisions.every(part["truth"].to_numpy(), part[target.outputs].to_numpy(), target)
            for _, part in oof.groupby("fold")]  # fmt: skip


def settings(name: str | None) -> dict[str, Any]:
    """The params of params.yaml, what a preset sets in its place."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    for section, values in (preset.read(name) if name else {}).items():
        params[section] |= values
    return dict(params)


def run(folder: Path, params: dict[str, Any]) -> list[list[str]]:
    """All stages up to the submission; the members of the blend."""
    folder.mkdir(parents=True, exist_ok=True)
    YAML(typ="safe").dump(params, folder / "params.yaml")
    families = {
        stage: [[stage, name] for name in params[stage][family]]
        for stage, family in (("extract", "backbones"), ("learn", "learners"), ("finetune", "networks"))
    }
    stages = [["fetch"], ["ingest"], ["augment"], *families["extract"], ["audit"], ["split"], ["rank"]]
    members = [*families["learn"], *families["finetune"]]
    store = os.environ.get("GOULOT_STORE", str(ROOT / ".goulot" / "store"))
    for stage in [*stages, *members, ["blend"], ["submit"]]:
        done = subprocess.run([sys.executable, "-m", "goulot", *stage], cwd=folder, text=True, capture_output=True,
                              env={**os.environ, "GOULOT_STORE": store}, check=False)  # fmt: skip
        if done.returncode:
            sys.exit(f"goulot {' '.join(stage)} failed:\n{done.stderr}")
    return members


def _log_loss(folder: Path, answers: pd.DataFrame) -> float:
    """Of a member's own predictions for the test images."""
    found = pd.read_parquet(folder / "test.parquet").set_index("image_id")
    p = found.loc["test/" + answers["id"].astype(str)].to_numpy()
    return metrics.METRICS["log_loss"].score(answers["label"].to_numpy(dtype=int), p)


if __name__ == "__main__":
    main()
