"""A tiny competition whose classes show in its drawn images, and a workspace that holds it."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from ruamel.yaml import YAML

from goulot import cli, images, layout, targets
from goulot.targets import Target, Task

CLASSES = ("good", "cracked", "spotted")


def draw(rng: np.random.Generator, label: str, side: int = 64) -> Image.Image:
    """A gray image with a texture of its own; a dark line makes it cracked, a bright disc spotted, both it can be."""
    texture = Image.fromarray(rng.uniform(60, 200, (14, 14)).astype(np.uint8))
    image = texture.resize((side, side), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    x, y = rng.integers(side // 4, 3 * side // 4, 2).tolist()
    if "cracked" in label:
        pen.line([(x, 0), (y, side)], fill=0, width=side // 10)
    if "spotted" in label:
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


def measure(rng: np.random.Generator, share: float, side: int = 64) -> Image.Image:
    """A gray image with a bright disc whose radius is that share of the largest."""
    image = draw(rng, "good", side)
    radius = round(2 + share * (side // 2 - 3))
    middle = side // 2
    ImageDraw.Draw(image).ellipse([middle - radius, middle - radius, middle + radius, middle + radius], fill=255)
    return image


def retarget(task: Task, *, train: int = 60, test: int = 20, seed: int = 0) -> Target:
    """Give the workspace's ingested images another target, new pictures that show it, and what `ingest` writes of it.

    multiclass: three classes and one image of a fourth. ordinal: four grades. multilabel: two labels, each alone, both,
    or none. regression: two numbers.
    """
    rng = np.random.default_rng(seed)
    manifest = pd.read_parquet(layout.MANIFEST)
    number = manifest["id"].str.extract(r"(\d+)$")[0].astype(int)
    inside = manifest["split"] == "train"
    if task == "multilabel":
        target = Target(task, ["cracked", "spotted"])
        truth = pd.DataFrame({"y.cracked": number % 2, "y.spotted": number // 2 % 2}, dtype=float)
        shown = [
            draw(rng, " ".join(n for n, y in zip(target.names, row, strict=True) if y)) for row in truth.to_numpy()
        ]
    elif task == "regression":
        target, share = Target(task, ["size", "minus"]), rng.uniform(size=len(manifest))
        truth = pd.DataFrame({"y.size": 10 + 50 * share, "y.minus": -share})
        shown = [measure(rng, value) for value in share]
    elif task == "ordinal":
        target = Target(task, ["0", "1", "2", "3"])
        truth = pd.DataFrame({"label": (number % 4).astype(str)})
        shown = [measure(rng, value / 3) for value in number % 4]
    else:
        target = Target(task, [*CLASSES, "odd one"] if task == "multiclass" else list(CLASSES[:2]))
        names = np.array([*CLASSES, "odd one"] if task == "multiclass" else CLASSES[:2], dtype=object)
        labels = names[number % (3 if task == "multiclass" else 2)]
        if task == "multiclass":
            labels[inside & (number == 7)] = "odd one"
        truth = pd.DataFrame({"label": labels})
        shown = [draw(rng, str(label)) for label in labels]
    if "label" not in truth:
        truth = truth.assign(label=[" ".join(map(str, row)) for row in truth.to_numpy()])
    truth = truth.where(inside)
    manifest = manifest.drop(columns="label").join(truth)
    _repack(manifest, shown)
    targets.write(target)
    return target


def _repack(manifest: pd.DataFrame, shown: Sequence[Image.Image]) -> None:
    for file, image in zip(manifest["file"], shown, strict=True):
        image.save(layout.RAW / file)
    shutil.rmtree(layout.SHARDS)
    files = (layout.RAW / file for file in manifest["file"])
    places = images.pack(zip(manifest["image_id"], files, strict=True), layout.SHARDS, shard_bytes=2**20)
    packed = pd.DataFrame(places, columns=["image_id", "shard", "row"])
    hashes = [hashlib.sha256((layout.RAW / file).read_bytes()).hexdigest() for file in manifest["file"]]
    manifest = manifest.drop(columns=["shard", "row"]).assign(sha256=hashes)
    manifest.merge(packed, on="image_id", validate="one_to_one").to_parquet(layout.MANIFEST, index=False)


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
        "audit": {"backbone": "tiny", "planted": 60},
        "split": {"folds": 3},
        "rank": {},
        "learn": {
            "learners": {
                "logistic": {"kind": "logistic"},
                "lightgbm": {"kind": "lightgbm", "trees": 10, "components": 8},
            }
        },
        "finetune": {"networks": {}},
        "prune": {"networks": {}},
        "blend": {"rounds": 5, "bags": 2, "methods": ["greedy"]},
        "review": {},
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
