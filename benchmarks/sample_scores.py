"""The sample's test scores with the parameters of params.yaml, over several seeds of its split.

    python benchmarks/sample_scores.py [--seeds 5] [--source sample:elpv-modules]

Each seed is a run of its own in a temporary folder, from `goulot fetch` to `goulot score`. Features come from the
shared store, so that they are computed once: an image's features do not depend on which side of the split it fell.
Nothing is tuned on the test part: no stage reads its answers. Beside the blend's scores stands the best log-loss that a
single member reaches on the test part, and which that is.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from goulot import metrics, samples
from goulot.commands.score import score

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the seeds and print a line each, then mean and standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--source", choices=["sample:elpv", "sample:elpv-modules"], default="sample:elpv")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder, to look into them")
    args = parser.parse_args()
    rows = []
    for seed in range(args.seeds):
        start = time.monotonic()
        if args.keep:
            rows.append(run_seed(args.keep / str(seed), args.source, seed))
        else:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(run_seed(Path(folder), args.source, seed))
        print(f"seed {seed}: {_said(rows[-1])} ({time.monotonic() - start:.0f} s)", flush=True)
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        print(f"{metrics.METRICS[name].title}: {values.mean():.4f} +- {values.std(ddof=1):.4f}, {len(values)} seeds")


def _said(scores: dict[str, float]) -> str:
    return ", ".join(f"{metrics.METRICS[name].title} {value:.4f}" for name, value in scores.items())


def run_seed(folder: Path, source: str, seed: int) -> dict[str, float]:
    """All stages with that seed of the split; the scores on the test part."""
    folder.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    params = yaml.load(ROOT / "params.yaml")
    params["fetch"] |= {"source": source, "seed": seed}
    if source == "sample:elpv-modules":
        params["ingest"]["train"]["group"] = "group"
    yaml.dump(params, folder / "params.yaml")
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
    sample = samples.find(source.partition(":")[2])
    answers = sample.answers(seed=seed, limit=params["fetch"].get("limit"))
    alone = {"@".join(member): _log_loss(folder / "data" / member[0] / member[1], answers) for member in members}
    best = min(alone, key=alone.__getitem__)
    print(f"    the best member on the test part: {best}, log-loss {alone[best]:.4f}", flush=True)
    return score(folder / "data/submit/submission.csv", answers)


def _log_loss(folder: Path, answers: pd.DataFrame) -> float:
    """Of a member's own predictions for the test images."""
    found = pd.read_parquet(folder / "test.parquet").set_index("image_id")
    p = found.loc["test/" + answers["id"].astype(str)].to_numpy()
    return metrics.METRICS["log_loss"].score(answers["label"].to_numpy(dtype=int), p)


if __name__ == "__main__":
    main()
