"""`goulot extract <backbone>`: bottleneck features of every view at every chosen depth. Needs no labels."""

import logging
import shutil
from typing import Literal

import pandas as pd
from pydantic import Field

from goulot import extraction, layout
from goulot.artifacts import read_table, write_json, write_table
from goulot.backbones import BackboneParams, Pooling, load
from goulot.errors import ParamsError, choices
from goulot.images import Shards
from goulot.params import Section
from goulot.store import Store

log = logging.getLogger("goulot")


class Params(Section):
    """Which networks are read, how, and on what."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is bfloat16 where it is fast"
    )
    batch: int = Field(16, ge=1, le=4096, description="images a forward pass; 8 to 16 on a CPU, 64 and more on a GPU")
    threads: int | None = Field(None, ge=1, le=256, description="empty means every core")
    poolings: tuple[Pooling, ...] = Field(("avg", "max"), min_length=1, description="how a map becomes a vector")
    backbones: dict[str, BackboneParams] = Field(
        min_length=1,
        description="the networks, by a name of yours",
        examples=[{"r18": {"model": "resnet18", "weights": "timm"}, "lite2": None}],
    )


def run(params: Params, backbone: str) -> None:
    """Write `data/extract/<backbone>/`: rows.parquet, one .npy a tap and pooling, meta.json last."""
    if backbone not in params.backbones:
        raise ParamsError(choices("backbone", backbone, params.backbones, "params.yaml defines"))
    folder = layout.features(backbone)
    shutil.rmtree(folder, ignore_errors=True)
    engine = extraction.resolve_engine(params.device, params.dtype, params.batch, params.threads)
    network = load(backbone, params.backbones[backbone])
    manifest = read_table(layout.MANIFEST)
    plan = _plan(manifest)
    store = Store(layout.store(), {**network.key(), **engine.key()})
    shards = Shards(layout.SHARDS, manifest)
    seconds = extraction.extract(network, engine, shards, plan, store, params.poolings)
    widths = extraction.assemble(network, plan, store, params.poolings, folder)
    columns = extraction.costs(network, widths, params.poolings)
    write_table(folder / "rows.parquet", plan[["image_id", "view"]])
    write_json(folder / "meta.json", {**extraction.describe(network, engine), "columns": columns, "rows": len(plan)})
    log.info(
        "extracted %s: %s rows x %s columns in %.0f s (%.0f rows/s), %.1f KB a row",
        backbone,
        f"{len(plan):,}",
        f"{sum(widths.values()):,}",
        seconds,
        len(plan) / max(seconds, 1e-9),
        sum(widths.values()) * 2 / 1000,
    )


def _plan(manifest: pd.DataFrame) -> pd.DataFrame:
    """The view plan with what it takes to find and name each row's image."""
    places = manifest[["image_id", "sha256", "shard", "row"]]
    plan = read_table(layout.VIEWS).merge(places, on="image_id", how="left", validate="many_to_one")
    return plan.assign(name=extraction.row_names(plan))
