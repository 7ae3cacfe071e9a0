"""A tiny competition whose classes show in its drawn images, and a workspace that holds it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from ruamel.yaml import YAML

from goulot import cli

CLASSES = ("good", "cracked", "spotted")


def draw(rng: np.random.Generator, label: str, side: int = 64) -> Image.Image:
    """A gray image with a texture of its own; a dark line makes it cracked, a bright disc spotted."""
    texture = Image.fromarray(rng.uniform(60, 200, (14, 14)).astype(np.uint8))
    image = texture.resize((side, side), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    x, y = rng.integers(side // 4, 3 * side // 4, 2).tolist()
    if label == "cracked":
        pen.line([(x, 0), (y, side)], fill=0, width=side // 10)
    elif label == "spotted":
        pen.ellipse([x - side // 6, y - side // 6, x + side // 6, y + side // 6], fill=255)
    return image


def make(folder: Path, *, classes: Sequence[str] = CLASSES[:2], train: int = 60, test: int = 20, seed: int = 0) -> Path:
    """Write train.csv, test.csv, sample_submission.csv and the images, classes taking turns."""
    rng = np.random.default_rng(seed)
    tables = {}
    for split, count in (("train", train), ("test", test)):
        (folder / split).mkdir(parents=True)
        labels = [classes[i % len(classes)] for i in range(count)]
        ids = [f"{split}{i:03d}" for i in range(count)]
        for name, label in zip(ids, labels, strict=True):
            draw(rng, label).save(folder / split / f"{name}.png")
        tables[split] = pd.DataFrame({"id": ids, "label": labels})
    tables["train"].to_csv(folder / "train.csv", index=False)
    tables["test"][["id"]].to_csv(folder / "test.csv", index=False)
    tables["test"][["id"]].assign(label=classes[0]).to_csv(folder / "sample_submission.csv", index=False)
    return folder


def params(competition: Path) -> dict[str, Any]:
    """Small settings of every stage; the network has random weights, since only the plumbing is judged."""
    return {
        "fetch": {"source": f"path:{competition}"},
        "ingest": {
            "train": {"table": "train.csv", "id": "id", "label": "label", "image": "train/{id}.png"},
            "test": {"table": "test.csv", "id": "id", "image": "test/{id}.png"},
        },
        "augment": {"policy": "dihedral", "views": 1},
        "extract": {
            "device": "cpu", "dtype": "float32", "batch": 8, "threads": 2, "runtime": "torch",
            "backbones": {"tiny": {"model": "test_efficientnet", "weights": "random", "input_size": 64}},
        },
        "audit": {},
        "split": {"folds": 3},
        "rank": {},
        "learn": {
            "learners": {
                "logistic": {"kind": "logistic"},
                "lightgbm": {"kind": "lightgbm", "trees": 10, "components": 8},
            }
        },
        "blend": {"rounds": 5},
        "submit": {},
        "report": {"title": "Tiny"},
    }  # fmt: skip


@dataclass
class Workspace:
    """A folder with params.yaml; it is the current directory as long as the test runs."""

    root: Path
    competition: Path
    params: dict[str, Any] = field(default_factory=dict)

    def set(self, key: str, value: object) -> None:
        """Change one setting, e.g. `blend.rounds`, and write params.yaml."""
        *parents, last = key.split(".")
        section = self.params
        for parent in parents:
            section = section[parent]
        section[last] = value
        self.write()

    def write(self) -> None:
        """Write params.yaml."""
        with (self.root / "params.yaml").open("w") as file:
            YAML().dump(self.params, file)

    def run(self, *stages: str) -> None:
        """Run stages in this process as `goulot <stage> [name]` does: "ingest", "extract tiny"."""
        for stage in stages:
            cli.run_stage(*stage.split())
