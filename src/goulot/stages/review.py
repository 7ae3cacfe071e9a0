"""`goulot review`: a second look at the training labels that the blend's out-of-fold predictions doubt."""

import logging
import shutil
from collections.abc import Hashable, Mapping

import pandas as pd
from pydantic import Field

from goulot import doubts, layout, pictures, truth
from goulot.artifacts import read_table, write_json, write_table
from goulot.images import Shards
from goulot.params import Section

log = logging.getLogger("goulot")

WIDTH = 6  # images in a row of the sheet


class Params(Section):
    """Which labels are doubted. Nothing is left out by it: `goulot drop` does that, of what a person agrees with."""

    deviation: float = Field(3.5, gt=0, description="of a number: robust standard deviations off the prediction")
    shown: int = Field(24, ge=1, le=600, description="images on the contact sheet, the most doubtful first")


def run(params: Params) -> None:
    """Write doubts.csv (image_id, file, name, given, suggested, how doubtful), a contact sheet and metrics."""
    shutil.rmtree(layout.REVIEW, ignore_errors=True)
    known, manifest = truth.read().train, read_table(layout.MANIFEST)
    oof = read_table(layout.BLEND_OOF).set_index("image_id").loc[known.images["image_id"], known.target.outputs]
    found = doubts.find(known.y, oof.to_numpy(), known.target, deviation=params.deviation)
    ids = known.images["image_id"].iloc[found.pop("row")]
    places = manifest.set_index("image_id").loc[ids, ["file", "shard", "row"]].reset_index()
    table = places.join(found)
    write_table(layout.DOUBTS, table.drop(columns=["shard", "row"]))
    _sheet(table.head(params.shown), Shards(layout.SHARDS, manifest))
    images = int(ids.nunique())
    write_json(layout.metrics(layout.REVIEW), {"labels_doubted": len(found), "images_doubted": images})
    log.info(
        "reviewed %s training images: the labels of %s are doubted (see %s); goulot drop leaves images out",
        f"{len(known.images):,}",
        f"{images:,}",
        layout.DOUBTS_SHEET,
    )


def _sheet(table: pd.DataFrame, shards: Shards) -> None:
    cells = [
        (shards.decode(row["shard"], int(row["row"]), row["image_id"]), _caption(row))
        for row in table.to_dict("records")
    ]
    pictures.sheet([cells[i : i + WIDTH] for i in range(0, len(cells), WIDTH)], layout.DOUBTS_SHEET)


def _caption(row: Mapping[Hashable, object]) -> str:
    """Where it is, what was given and what is suggested."""
    said = [f"{value:.4g}" if isinstance(value, float) else value for value in (row["given"], row["suggested"])]
    name = "" if row["name"] == "label" else f"{row['name']} "
    return f"{row['image_id']}\n{name}{said[0]} -> {said[1]}"
