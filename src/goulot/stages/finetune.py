"""`goulot finetune <name>`: a network's last blocks, or all of it, trained on and cross-fitted on the one ledger."""

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from threadpoolctl import threadpool_limits
from torch.multiprocessing.spawn import spawn

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
    pixels,
    probes,
    progress,
    stepping,
    tails,
    training,
)
from goulot.artifacts import digest, file_sha256, read_json, read_table, write_table
from goulot.backbones import Backbone, BackboneParams
from goulot.checkpoints import Checkpoints
from goulot.crossfit import Predictions
from goulot.errors import ArtifactError, ParamsError, choices
from goulot.features import Maps
from goulot.finetuning import Device, Precision, Tuner, Views
from goulot.images import Shards
from goulot.learners import Context
from goulot.params import Section, members, parse, read
from goulot.pixels import Pixels
from goulot.stepping import Recipe
from goulot.taps import INPUT

log = logging.getLogger("goulot")


class Params(Section):
    """The networks, and what they have in common."""

    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1, le=256, description="fixed, since the last bits of a result depend on it")
    device: Device = Field("auto", description="auto takes a GPU where there is one")
    dtype: Precision = Field("auto", description="auto is bfloat16 where the device computes in it, else float32")
    networks: dict[str, Recipe] = Field(
        {},
        description="what is trained, by a name of yours",
        examples=[{"lite2": {"backbone": "lite2", "tap": "s4"}, "lite0": None}],
    )


def run(params: Params, name: str) -> None:
    """Write `data/finetune/<name>/`: what `learn` writes, the losses by epoch among it, and attention.parquet."""
    if name not in params.networks:
        raise ParamsError(choices("network", name, params.networks, "finetune.networks has"))
    start, folder = time.monotonic(), layout.finetuned(name)
    shutil.rmtree(folder, ignore_errors=True)
    work = _Work(params, name)
    many = min(finetuning.count(work.device), len(work.rows.folds))
    if many > 1 and (params.networks[name].epochs or params.networks[name].whole):  # else there is nothing to wait for
        log.info("fine-tune %s: %d folds at a time, one a GPU", name, many)
        alike = params.model_copy(update={"dtype": str(work.dtype).removeprefix("torch.")})
        spawn(_train, (alike, name, many, log.level), nprocs=many)  # type: ignore[no-untyped-call]
    predictions = work.cross_fit(work.rows.folds)
    attention = work.attention()
    scores = crossfit.write(folder, work.rows, predictions)
    if attention is not None:
        write_table(layout.attention(name), attention)
    work.kept.clear()
    log.info(
        "fine-tuned %s in %s on %s and %.0f s: %s", name, work.dtype, work.device, time.monotonic() - start, scores
    )


def _train(number: int, params: Params, name: str, many: int, level: int) -> None:
    """In a process of its own: train every `many`th fold's networks on GPU `number`; they wait as checkpoints."""
    progress.show(level, beside=True)
    if torch.cuda.is_available():
        torch.cuda.set_device(number)
    work = _Work(params, name)
    work.cross_fit(work.rows.folds[number::many])


class _Work:
    """A network, what it is trained on, and the estimators that were made for the folds."""

    def __init__(self, params: Params, name: str) -> None:
        self._params, self._name, self._recipe = params, name, params.networks[name]
        backbone, where = _backbone(self._recipe, name), f"finetune.networks.{name}"
        self._tail = tails.cut(backbone, self._recipe.tap, f"{where}.tap")
        self._whole = tails.cut(backbone, INPUT, f"{where}.whole") if self._recipe.whole else None
        self.rows, self.device = ledger.read(), finetuning.place(params.device)
        self.dtype = finetuning.dtype(params.dtype, self.device)
        if self._recipe.class_weight and self.rows.truth.target.task == "regression":
            raise ParamsError(f"{where}.class_weight is for classes and labels, and the target is numbers; omit it")
        self._X = _views(self._recipe, backbone, self.rows.rows, params.threads)
        key = _key(params, self._recipe, f"{self.dtype} on {self.device}")
        self.kept = Checkpoints(layout.checkpoints(name), key)
        self._made: dict[int, Tuner] = {}

    def cross_fit(self, folds: Sequence[int]) -> Predictions:
        """Train the folds' networks, or take up what is left of them; predict."""
        params = self._params
        with threadpool_limits(params.threads):
            return crossfit.cross_fit(
                self._make, self.rows, lambda _fold: self._X, folds=folds, seed=params.seed, threads=params.threads,
                watch=True,
            )  # fmt: skip

    def attention(self) -> pd.DataFrame | None:
        """Of the images as they are: image_id, height, width and the map in bytes, row by row."""
        with threadpool_limits(self._params.threads):
            tables = [_attention(made, self.rows.rows, fold, self._X) for fold, made in sorted(self._made.items())]
        found = [table for table in tables if table is not None]
        return pd.concat(found) if found else None

    def _make(self, context: Context) -> Tuner:
        fold = context.seed - self._params.seed
        self._made[fold] = Tuner(
            self._recipe, self._tail, context, device=self.device, dtype=self.dtype, checkpoints=self.kept,
            label=f"finetune {self._name}, fold {fold}", whole=self._whole,
        )  # fmt: skip
        return self._made[fold]


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


def _attention(tuner: Tuner, rows: pd.DataFrame, fold: int, X: Views) -> pd.DataFrame | None:
    """Of the fold's images as they are: image_id, height, width and the map in bytes, row by row."""
    held = ((rows["fold"] == fold) & (rows["view"] == 0)).to_numpy()
    maps = tuner.attention(X[held])
    if maps is None:
        return None
    grids = [grid.tobytes() for grid in (maps * 255).round().astype(np.uint8)]
    return pd.DataFrame({"image_id": rows["image_id"][held], "height": maps.shape[1], "width": maps.shape[2],
                         "map": grids})  # fmt: skip


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
    modules = (augmentation, balance, crossfit, finetuning, fitting, images, pixels, probes, stepping, tails, training)
    code = [Path(str(module.__file__)) for module in modules]
    shared = [params.seed, params.threads, engine, torch.__version__]
    return digest(recipe.model_dump(), shared, [file_sha256(path) for path in (*read, *code)])
