"""Memory of a stage does not grow with the number of images: `ingest` to `extract` of 2,000 and of 50,000 made-up ones.

    python benchmarks/memory.py [--images 2000 50000]

The images are JPEGs of 96 pixels of noise; the network is ResNet-18 with random weights at 32 pixels, whole maps of its
last stage kept. Printed is the largest anonymous memory of each stage, sampled ten times a second (Linux).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pipeline import watch
from ruamel.yaml import YAML

STAGES = ("fetch", "ingest", "augment", "extract@r18", "audit", "split")
PARAMS = {
    "fetch": {"source": "path:images"},
    "ingest": {
        "train": {"table": "train.csv", "id": "id", "label": "label", "image": "train/{id}.jpg"},
        "test": {"table": "test.csv", "id": "id", "image": "train/{id}.jpg"},
    },
    "augment": {"views": 0},
    "audit": {"backbone": "r18"},
    "extract": {
        "dtype": "float32", "runtime": "torch", "batch": 64,
        "backbones": {"r18": {"model": "resnet18", "weights": "random", "input_size": 32, "maps": ["s5"]}},
    },
    "split": {},
}  # fmt: skip


def main() -> None:
    """Print a line a stage, a column a number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 50_000])
    counts = parser.parse_args().images
    found = [peaks(count) for count in counts]
    print("largest anonymous memory, MiB   " + "".join(f"{count:>12,}" for count in counts) + "   ratio")
    for stage in STAGES:
        sizes = [peak[stage] / 2**20 for peak in found]
        print(f"{stage:31} " + "".join(f"{size:>12,.0f}" for size in sizes) + f"{sizes[-1] / sizes[0]:8.2f}")


def peaks(count: int) -> dict[str, int]:
    """The largest anonymous bytes of each stage."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "images", count)
        with (folder / "params.yaml").open("w") as file:
            YAML().dump(PARAMS, file)
        env = {**os.environ, "GOULOT_ENGINES": str(folder / "engines")}
        env.pop("GOULOT_STORE", None)
        found: dict[str, int] = {}
        for stage in STAGES:
            # `watch` looks at descendants: a shell stands between.
            command = " ".join([sys.executable, "-m", "goulot", *stage.split("@")])
            script = ["sh", "-c", f"exec 2>log; {command} || exit 1; true"]
            process = subprocess.Popen(script, cwd=folder, env=env)
            watch(process, found)
            if process.returncode:
                sys.exit(f"{stage} failed: {(folder / 'log').read_text()[-2000:]}")
        return found


def make(folder: Path, count: int) -> None:
    """Images of noise with a label each; a tenth is the test set."""
    (folder / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (96, 96), dtype=np.uint8)).save(folder / f"train/{number}.jpg")
    rows = pd.DataFrame({"id": range(count), "label": rng.integers(0, 2, count)})
    rows[count // 10 :].to_csv(folder / "train.csv", index=False)
    rows[["id"]][: count // 10].to_csv(folder / "test.csv", index=False)
    rows[: count // 10].to_csv(folder / "sample_submission.csv", index=False)


if __name__ == "__main__":
    main()
