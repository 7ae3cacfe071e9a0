"""`goulot finetune <name>`: a network's last blocks, or all of it, trained on and cross-fitted on the one ledger."""

import logging
import os
import shutil
import signal
import threading
import time
from contextlib import suppress
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from threadpoolctl import threadpool_limits
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from goulot import (
    augmentation,
    backbones,
    balance,
    crossfit,
    features,
    finetuning,
    fitting,
    images,
    layout,
    ledger,
    maps,
    pixels,
    probes,
    progress,
    stepping,
    tails,
    targets,
    training,
    truth,
)
from goulot.artifacts import digest, file_sha256, read_json, read_table, write_table
from goulot.backbones import Backbone, BackboneParams
from goulot.checkpoints import Checkpoints
from goulot.crossfit import Predictions
from goulot.errors import ArtifactError, GoulotError, ParamsError, choices
from goulot.features import Maps
from goulot.finetuning import Device, Precision, Share, Tuner, Views
from goulot.images import Shards
from goulot.learners import Context
from goulot.params import Section, members, parse, read
from goulot.pixels import Pixels
from goulot.stepping import Recipe
from goulot.taps import INPUT

log = logging.getLogger("goulot")

PARTS = ("oof", "test", "alone")  # of the predictions, those that are arrays
WORTH = 5000  # images of all epochs, of fewer of which the end of a network is trained before a process has started


class Params(Section):
    """The networks, and what they have in common."""

    seed: int = Field(0, ge=0)
    threads: int = Field(
        2, ge=1, le=256, description="fixed, since the last bits of a result depend on it; on a CPU so many folds are "
        "trained side by side, each with memory of its own",
    )  # fmt: skip
    device: Device = Field("auto", description="auto takes a GPU where there is one")
    dtype: Precision = Field("auto", description="auto is bfloat16 where the device computes in it, else float32")
    networks: dict[str, Recipe] = Field(
        {},
        description="what is trained, by a name of yours",
        examples=[{"lite2": {"backbone": "lite2", "tap": "s4"}, "lite0": None}],
    )


def run(params: Params, name: str, *, beside: bool | None = None) -> None:
    """Write `data/finetune/<name>/`: what `learn` writes, the losses by epoch among it, and attention.parquet.

    `beside`: whether folds are trained side by side; where nothing is said, where that pays.
    """
    if name not in params.networks:
        raise ParamsError(choices("network", name, params.networks, "finetune.networks has"))
    start, folder = time.monotonic(), layout.finetuned(name)
    shutil.rmtree(folder, ignore_errors=True)
    work = _Work(params, name, threads=params.threads)
    alike = params.model_copy(update={"dtype": str(work.dtype).removeprefix("torch.")})
    for shares in work.shares(beside):
        if len(lacking := [share for share in shares if work.lacks(share)]) > 1:
            _side_by_side(alike, name, lacking)
            progress.beside(sum(map(work.held, lacking)))
        for share in shares:  # what processes did is taken up
            work.train(share)
    predictions, attention = work.results()
    scores = crossfit.write(folder, work.rows, predictions)
    if attention is not None:
        write_table(layout.attention(name), attention)
    work.kept.clear()
    log.info(
        "fine-tuned %s in %s on %s and %.0f s: %s", name, work.dtype, work.device, time.monotonic() - start, scores
    )


def pays(recipe: Recipe, images: int) -> bool:
    """Whether training the folds of so many images in processes side by side is worth starting them."""
    return recipe.whole is not None or recipe.members * recipe.epochs * images >= WORTH


def _side_by_side(params: Params, name: str, shares: list[Share]) -> None:
    """Train each share in a process of its own. Where one of them is killed, so is this one, as if it were all one."""
    log.info("finetune %s: folds %s at a time", name, " and ".join(str(share.folds) for share in shares))
    try:
        spawn(_train, (params, name, shares, log.level), nprocs=len(shares), daemon=True)  # type: ignore[no-untyped-call]
    except ProcessExitedException as error:
        if (code := int(error.exit_code)) >= 0:
            raise
        log.error(
            "finetune %s: one of the processes was ended by signal %d; where memory was lacking, finetune.threads: 1 "
            "trains one fold at a time", name, -code,
        )  # fmt: skip
        signal.raise_signal(-code)


def _train(number: int, params: Params, name: str, shares: list[Share], level: int) -> None:
    """In a process of its own: train a share, on the GPU of its number; the predictions wait as checkpoints."""
    progress.show(level, beside=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if finetuning.place(params.device).type == "cuda":
        torch.cuda.set_device(number)
    with suppress(GoulotError):  # the parent, which trains what is left, meets the same, and says it in one line
        _Work(params, name, threads=shares[number].threads).train(shares[number])


def _end_with_parent() -> None:
    """Whatever ends it: no signal tells of that on every system, nor to a process that is still importing."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


class _Work:
    """A network, what it is trained on, and what the folds' networks predict."""

    def __init__(self, params: Params, name: str, *, threads: int) -> None:
        self._params, self._name, self._recipe = params, name, params.networks[name]
        backbone, where = _backbone(self._recipe, name), f"finetune.networks.{name}"
        self._tail = tails.cut(backbone, self._recipe.tap, f"{where}.tap")
        self._whole = tails.cut(backbone, INPUT, f"{where}.whole") if self._recipe.whole else None
        self.rows, self.device = ledger.read(), finetuning.place(params.device)
        self.dtype = finetuning.dtype(params.dtype, self.device)
        if self._recipe.class_weight and self.rows.truth.target.task == "regression":
            raise ParamsError(f"{where}.class_weight is for classes and labels, and the target is numbers; omit it")
        self._X = _views(self._recipe, backbone, self.rows.rows, threads)
        key = _key(params, self._recipe, f"{self.dtype} on {self.device}")
        self.kept = Checkpoints(layout.checkpoints(name), key)

    def shares(self, beside: bool | None) -> list[list[Share]]:
        """Rounds of processes; a single one of what takes no longer than they take to start."""
        if not (pays(self._recipe, len(self.rows.truth.train.images)) if beside is None else beside):
            return [[Share(self.rows.folds, self._params.threads)]]
        return finetuning.shares(self.rows.folds, self.device, self._params.threads)

    def lacks(self, share: Share) -> list[int]:
        """The folds whose networks are still to be trained."""
        return [fold for fold in share.folds if self.kept.read(_kept(fold)) is None]

    def train(self, share: Share) -> None:
        """Train the folds' networks that no process has trained, and keep what they predict and look at."""
        for fold in self.lacks(share):
            with threadpool_limits(share.threads):
                self.kept.write(_kept(fold), self._fold(fold, share.threads))

    def held(self, share: Share) -> int:
        """The bytes of memory of the process that trained a share."""
        states = (self.kept.read(_kept(fold)) for fold in share.folds)
        return max((int(state["peak_bytes"]) for state in states if state), default=0)

    def results(self) -> tuple[Predictions, pd.DataFrame | None]:
        """What all folds' networks predict, and attention.parquet's rows: where they look at the images as they are."""
        states = [self.kept.read(_kept(fold)) or {} for fold in self.rows.folds]
        tables = [_rows(**seen) for state in states if (seen := state["attention"])]
        return crossfit.together([_predictions(state) for state in states]), pd.concat(tables) if tables else None

    def _fold(self, fold: int, threads: int) -> dict[str, Any]:
        made: list[Tuner] = []

        def make(context: Context) -> Tuner:
            made.append(Tuner(
                self._recipe, self._tail, context, device=self.device, dtype=self.dtype, checkpoints=self.kept,
                label=f"finetune {self._name}, fold {fold}", whole=self._whole,
            ))  # fmt: skip
            return made[-1]

        found = crossfit.cross_fit(
            make, self.rows, lambda _fold: self._X, folds=[fold], seed=self._params.seed, threads=threads, watch=True
        )
        held = ((self.rows.rows["fold"] == fold) & (self.rows.rows["view"] == 0)).to_numpy()
        maps = made[0].attention(self._X[held]) if made else None
        seen = None if maps is None else {
            "images": self.rows.rows["image_id"][held].tolist(),
            "maps": torch.from_numpy((maps * 255).round().astype(np.uint8)),
        }  # fmt: skip
        return {
            **{part: None if (values := getattr(found, part)) is None else torch.from_numpy(values) for part in PARTS},
            "losses": found.losses.to_dict("list"),
            "attention": seen,
            "peak_bytes": progress.peak_bytes(),
        }


def _predictions(state: dict[str, Any]) -> Predictions:
    arrays: dict[str, Any] = {part: None if state[part] is None else state[part].numpy() for part in PARTS}
    return Predictions(**arrays, losses=pd.DataFrame(state["losses"]))


def _rows(images: list[str], maps: torch.Tensor) -> pd.DataFrame:
    """image_id, height, width and the map in bytes, row by row; maps are uint8 (images, height, width)."""
    _, height, width = maps.shape
    grids = [grid.tobytes() for grid in maps.numpy()]
    return pd.DataFrame({"image_id": images, "height": height, "width": width, "map": grids})


def _kept(fold: int) -> str:
    """The name of what is kept of a fold whose networks are trained."""
    return f"fold-{fold}"


def _views(recipe: Recipe, backbone: Backbone, rows: pd.DataFrame, threads: int) -> Views:
    """The rows' maps, and their images where the training wants them, whose input need not be kept as a map."""
    image = rows["image"].to_numpy()
    if not recipe.whole and recipe.tap != INPUT:
        return Views(_maps(recipe, rows), image)
    manifest = read_table(layout.MANIFEST)
    plan = rows[["image_id", "view"]].merge(read_table(layout.VIEWS), how="left", validate="one_to_one")
    plan = plan.merge(manifest[["image_id", "shard", "row"]], how="left", validate="many_to_one")
    pixels = Pixels(Shards(layout.SHARDS, manifest), plan, backbone.preprocessing, threads)
    return Views(pixels if recipe.tap == INPUT else _maps(recipe, rows), image, pixels)


def _maps(recipe: Recipe, rows: pd.DataFrame) -> Maps:
    return features.Features(rows).maps(recipe.backbone, f"{recipe.tap}.map")


def _backbone(recipe: Recipe, name: str) -> Backbone:
    """The network that the maps were read from; its weights must still be the same."""
    known = members("extract", "backbones")
    if recipe.backbone not in known:
        raise ParamsError(
            choices("backbone", recipe.backbone, known, f"finetune.networks.{name}.backbone can be one of")
        )
    settings = read()["extract"]["backbones"][recipe.backbone]
    backbone = backbones.load(recipe.backbone, parse(f"extract.backbones.{recipe.backbone}", settings, BackboneParams))
    if digest(read_json(layout.features(recipe.backbone) / "meta.json")["key"]) != digest(backbone.key()):
        raise ArtifactError(
            f"the maps of {recipe.backbone} were computed with other weights or preprocessing; "
            f"dvc repro -f -s extract@{recipe.backbone} computes them anew"
        )
    return backbone


def _key(params: Params, recipe: Recipe, engine: str) -> str:
    """A digest of all that the result depends on, the code among it."""
    own = layout.features(recipe.backbone)
    read = [layout.MANIFEST, layout.TARGET, layout.VIEWS, layout.FOLDS, own / "rows.parquet", own / "meta.json"]
    modules = (augmentation, balance, crossfit, features, finetuning, fitting, images, ledger, maps, pixels, probes,
               stepping, tails, targets, training, truth)  # fmt: skip
    code = [Path(__file__), *(Path(str(module.__file__)) for module in modules)]
    shared = [params.seed, params.threads, engine, torch.__version__]
    return digest(recipe.model_dump(), shared, [file_sha256(path) for path in (*read, *code)])
