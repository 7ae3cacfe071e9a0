"""The sample's test scores with the parameters of params.yaml, over several seeds of its 75/25 split.

    python benchmarks/sample_scores.py [--seeds 5]

Each seed is a run of its own in a temporary folder, from `goulot fetch` to `goulot score`. Features come from the
shared store, so that they are computed once: an image's features do not depend on which side of the split it fell.
Nothing is tuned on the test part: no stage reads its answers.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from goulot import metrics, samples
from goulot.commands.score import score

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the seeds and print a line each, then mean and standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder, to look into them")
    args = parser.parse_args()
    rows = []
    for seed in range(args.seeds):
        start = time.monotonic()
        if args.keep:
            rows.append(run_seed(args.keep / str(seed), seed))
        else:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(run_seed(Path(folder), seed))
        line = ", ".join(f"{metrics.METRICS[name].title} {value:.4f}" for name, value in rows[-1].items())
        print(f"seed {seed}: {line} ({time.monotonic() - start:.0f} s)", flush=True)
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        print(
            f"{metrics.METRICS[name].title}: {values.mean():.4f} +- {values.std(ddof=1):.4f} over {len(values)} seeds"
        )


def run_seed(folder: Path, seed: int) -> dict[str, float]:
    """All stages with that seed of the split; the scores on the test part."""
    folder.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    params = yaml.load(ROOT / "params.yaml")
    params["fetch"]["seed"] = seed
    yaml.dump(params, folder / "params.yaml")
    names = params["extract"]["backbones"], params["learn"]["learners"]
    stages = [
        ["fetch"],
        ["ingest"],
        ["augment"],
        *(["extract", name] for name in names[0]),
        ["audit"],
        ["split"],
        ["rank"],
    ]
    stages += [*(["learn", name] for name in names[1]), ["blend"], ["submit"]]
    store = os.environ.get("GOULOT_STORE", str(ROOT / ".goulot" / "store"))
    for stage in stages:
        done = subprocess.run([sys.executable, "-m", "goulot", *stage], cwd=folder, text=True, capture_output=True,
                              env={**os.environ, "GOULOT_STORE": store}, check=False)  # fmt: skip
        if done.returncode:
            sys.exit(f"goulot {' '.join(stage)} failed:\n{done.stderr}")
    answers = samples.find("elpv").answers(seed=seed, limit=params["fetch"].get("limit"))
    return score(folder / "data/submit/submission.csv", answers)


if __name__ == "__main__":
    main()
