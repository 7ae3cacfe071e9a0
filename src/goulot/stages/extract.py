"""`goulot extract <backbone>`: bottleneck features of every view at every chosen depth. Needs no labels."""

import logging
import shutil
from typing import Any

import pandas as pd
from pydantic import Field

from goulot import engine, extraction, feeding, layout, settling
from goulot.artifacts import read_table, write_json, write_table
from goulot.backbones import BackboneParams, load
from goulot.engine import EngineParams
from goulot.errors import ParamsError, choices
from goulot.images import Shards
from goulot.maps import Form
from goulot.store import VECTORS
from goulot.taps import Pooling

log = logging.getLogger("goulot")


class Params(EngineParams):
    """Which networks are read, how, and on what."""

    poolings: tuple[Pooling, ...] = Field(("avg", "max"), min_length=1, description="how a map becomes a vector")
    maps: Form = Field("float16", description="how whole maps are kept; int8 has a scale a channel")
    backbones: dict[str, BackboneParams] = Field(
        min_length=1,
        description="the networks, by a name of yours",
        examples=[{"r18": {"model": "resnet18", "weights": "hub"}, "lite2": None}],
    )


def run(params: Params, backbone: str) -> None:
    """Write `data/extract/<backbone>/`: rows.parquet, one .npy a tap and pooling, meta.json last.

    Maps stay in the feature store, where the rows' names find them.
    """
    if backbone not in params.backbones:
        raise ParamsError(choices("backbone", backbone, params.backbones, "params.yaml defines"))
    folder, root = layout.features(backbone), layout.store()
    shutil.rmtree(folder, ignore_errors=True)
    network = load(backbone, params.backbones[backbone])
    manifest = read_table(layout.MANIFEST)
    plan = _plan(manifest)
    shards = Shards(layout.SHARDS, manifest)
    wanted = extraction.Wanted.of(network, params.poolings, params.maps)
    kept = engine.record(params, network, layout.engines())
    sample = feeding.trial(network, shards, plan)
    settled = settling.settle(params, network, kept, len(plan), sample)
    used, parts, speed = extraction.extract(network, settled, kept, shards, plan, root, wanted)
    if speed is not None:
        write_json(layout.speed(f"extract@{backbone}"), {"rows": speed})
    names = plan["name"].tolist()
    extraction.assemble(names, parts[VECTORS], wanted, folder)
    columns = extraction.costs(wanted)
    whole = extraction.map_costs(wanted, extraction.map_bytes(names, parts, wanted))
    write_table(folder / "rows.parquet", plan[["image_id", "view", "name"]])
    about = {"columns": columns, "maps": whole, "rows": len(plan)}
    write_json(folder / "meta.json", {**extraction.describe(network, used), **about})
    _report(backbone, {**columns, **whole})


def _plan(manifest: pd.DataFrame) -> pd.DataFrame:
    """The view plan with what it takes to find and name each row's image."""
    places = manifest[["image_id", "sha256", "shard", "row"]]
    plan = read_table(layout.VIEWS).merge(places, on="image_id", how="left", validate="many_to_one")
    return plan.assign(name=extraction.row_names(plan))


def _report(backbone: str, columns: dict[str, dict[str, Any]]) -> None:
    """Say what a row takes at each depth."""
    sizes = ", ".join(f"{column} {about['bytes']:,}" for column, about in columns.items())
    total = sum(about["bytes"] for about in columns.values()) / 1000
    log.info("%s: %.1f KB a row: %s", backbone, total, sizes)
