"""A trial: every stage after `ingest`, run on small cuts of the data set in a folder of its own.

Each stage has a process, which runs it on one cut after the other, so that imports and other first costs fall on the
first cut alone.
"""

import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from ruamel.yaml import YAML

from goulot import layout, params
from goulot.artifacts import read_table, write_table
from goulot.errors import GoulotError
from goulot.progress import peak_bytes
from goulot.reporting import costs

IMAGES = {"cpu": 160, "cuda": 1920}  # of the largest cut; a GPU's batches are large
TRAINED = 120  # training images of it at least
SHARES = (0.25, 0.5, 1.0)  # of it; a last run, of the largest, trains networks for an epoch more
EPOCHS = (1, 1, 1, 2)
STORE, LARGEST = "store", "2"  # in each cut; the last one that every stage runs on
OUTSIDE = "left out of the trial"


@dataclass(frozen=True)
class Run:
    """A stage on a cut: of how many images, for how many epochs, and what it took; its features in the store count."""

    images: int
    epochs: int
    seconds: float
    peak_bytes: int
    disk_bytes: int


Tried = tuple[str, list[Run] | GoulotError]


def run(folder: Path, device: str) -> tuple[int, Iterator[Tried]]:
    """How many images there are, and each stage's runs as they are done, or why it could not be tried.

    `folder` is empty and takes the cuts, 0 to 3. Raises GoulotError where no images are there to cut.
    """
    if not layout.MANIFEST.is_file():
        raise GoulotError("the images were not read yet; dvc repro ingest does, once, and then this can be planned")
    manifest, folder = read_table(layout.MANIFEST), folder.resolve()
    most = min(IMAGES[device], len(manifest))
    cuts = [_cut(folder / str(number), manifest, most, share) for number, share in enumerate(SHARES)]
    cuts.append(_again(folder / str(len(SHARES)), *cuts[-1]))
    return len(manifest), _stages(cuts, int((manifest["split"] == "train").sum()))


def _stages(cuts: Sequence[tuple[Path, int]], training: int) -> Iterator[Tried]:
    """In the pipeline's order; `training` images there will be in all."""
    stored = [0] * len(cuts)
    for stage, place in [*costs.stages(), ("report", layout.REPORT)]:
        verb, _, name = stage.partition("@")
        if verb in ("fetch", "ingest"):
            continue
        try:
            found = _tried(verb, name, [cut for cut, _ in cuts], training)
        except GoulotError as error:
            yield stage, error
            return  # what follows would only lack what this one writes
        held = [costs.size(cut / STORE) for cut, _ in cuts]
        disk = [costs.size(cut / place) + now - then for (cut, _), now, then in zip(cuts, held, stored, strict=True)]
        images = [images for _, images in cuts]
        yield stage, [Run(*run) for run in zip(images, EPOCHS, *zip(*found, strict=True), disk, strict=True)]
        stored = held


def _cut(folder: Path, manifest: pd.DataFrame, most: int, share: float) -> tuple[Path, int]:
    """A workspace of a share of so many images, training and test alike, a larger one with all of a smaller one's.

    Labels take turns, so that rare ones are in it: with one class alone there were nothing to fit.
    """
    order = pd.Series(np.random.default_rng(0).permutation(len(manifest)), index=manifest.index)
    turn = order.groupby([manifest["split"], manifest["label"].fillna("").astype(str)]).rank(method="first")
    place = (turn * len(manifest) + order).groupby(manifest["split"]).rank(method="first")
    size = manifest.groupby("split")["split"].transform("size")
    wanted = np.ceil(size * most * share / len(manifest))
    inside = place <= np.where(manifest["split"] == "train", np.maximum(wanted, TRAINED * share), wanted)
    (folder / layout.INGEST).mkdir(parents=True)
    for path in layout.INGEST.iterdir():
        if path not in (layout.MANIFEST, layout.QUARANTINE):
            (folder / path).symlink_to(path.resolve())
    write_table(folder / layout.MANIFEST, manifest[inside].reset_index(drop=True))
    aside = read_table(layout.QUARANTINE)
    out = manifest.loc[~inside, ["image_id", "split", "id", "file"]].assign(reason=OUTSIDE)
    write_table(folder / layout.QUARANTINE, pd.concat([aside, out], ignore_index=True))
    _settings(folder, params.read(), EPOCHS[0])
    return folder, int(inside.sum())


def _again(folder: Path, cut: Path, images: int) -> tuple[Path, int]:
    """A workspace on the files of a cut, in which networks are trained for longer."""
    folder.mkdir()
    for name in (layout.DATA, STORE):
        (folder / name).symlink_to(cut / name)
    _settings(folder, params.read(), EPOCHS[-1])
    return folder, images


def _settings(folder: Path, document: Mapping[str, Any], epochs: int) -> None:
    """Write a cut's params: what is trained by the epoch is tried for few of them."""
    own = json.loads(json.dumps(document, default=str))
    own["submit"] = {**(own.get("submit") or {}), "missing": "prior"}  # of the test images outside the cut
    for backbone in own["extract"]["backbones"].values():
        kind, _, path = str(backbone.get("weights", "")).partition(":")
        if kind == "file":  # from here, not from the cut
            backbone["weights"] = f"file:{Path(path).expanduser().resolve()}"
    for recipe in ((own.get("finetune") or {}).get("networks") or {}).values():
        recipe["epochs"] = min(epochs, recipe.get("epochs", epochs))
    with (folder / layout.PARAMS).open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(own, file)


def _tried(stage: str, name: str, cuts: Sequence[Path], training: int) -> list[tuple[float, int]]:
    """Seconds and peak bytes of the stage on each cut. Raises GoulotError as the stage does."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_timed, stage, [name] if name else [], cuts, training).result()
        except BrokenProcessPool as error:
            raise GoulotError("the stage's process was ended from outside; out of memory?") from error


def _timed(stage: str, names: Sequence[str], cuts: Sequence[Path], training: int) -> list[tuple[float, int]]:
    """In the process of its own."""
    logging.disable(logging.CRITICAL)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  of progress; the process ends with the stage
    found = []
    start = psutil.Process().create_time()
    module = import_module(f"goulot.stages.{stage}")
    how = {}
    if stage == "finetune":  # folds are trained side by side, or not, as those of all images will be
        how["beside"] = module.pays(params.load(stage, module.Params).networks[names[0]], training)
    for cut in cuts[: len(cuts) if stage == "finetune" else len(SHARES)]:
        os.chdir(cut)
        # A cut's features are in no store yet; how the networks run is settled on the first cut.
        os.environ |= {"GOULOT_STORE": str(cut / STORE), "GOULOT_ENGINES": str(cut.parent / "engines")}
        module.run(params.load(stage, module.Params), *names, **how)
        found.append((time.time() - start, peak_bytes()))
        start = time.time()
    return found + [found[-1]] * (len(cuts) - len(found))
