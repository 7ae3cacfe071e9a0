"""`goulot ingest`: check every image, read the labels, pack the good images into shards."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from pydantic import Field

from goulot import images, layout, tables, targets
from goulot.artifacts import write_json, write_table
from goulot.errors import DataError
from goulot.params import Section
from goulot.progress import track

log = logging.getLogger("goulot")


class Params(Section):
    """How the competition's files are laid out below `data/raw/`."""

    train: tables.LabelledTable = Field(description="the table of the training images")
    test: tables.ImageTable = Field(description="the table of the test images")
    max_quarantined: float = Field(
        0.02, ge=0, le=1, description="largest share of unreadable images; above it the run stops"
    )
    shard_mib: int = Field(64, ge=1, le=2048, description="size of a shard of packed images")
    threads: int = Field(2, ge=1, le=64, description="images checked at a time")


def run(params: Params) -> None:
    """Write the manifest, the target, the quarantine and the shards."""
    shutil.rmtree(layout.INGEST, ignore_errors=True)
    listed = tables.read(layout.RAW, params.train, params.test)
    paths = [layout.RAW / file for file in listed["file"]]
    with ThreadPoolExecutor(params.threads) as pool:
        checks = list(track(pool.map(images.check, paths), total=len(paths), unit="images", label="ingest"))
    table = listed.join(pd.DataFrame(checks, index=listed.index))
    good, bad = table[table.reason == ""], table[table.reason != ""]
    _stop_if_too_many(bad, len(table), params.max_quarantined)
    places = images.pack(
        zip(good.image_id, (layout.RAW / file for file in good.file), strict=True),
        layout.SHARDS,
        shard_bytes=params.shard_mib * 2**20,
    )
    packed = pd.DataFrame(places, columns=["image_id", "shard", "row"])
    manifest = good.drop(columns="reason").merge(packed, on="image_id", validate="one_to_one")
    classes = tables.classes(manifest)
    write_table(layout.MANIFEST, manifest)
    write_table(layout.QUARANTINE, bad[["image_id", "split", "id", "file", "reason"]])
    targets.write(targets.Target("binary" if len(classes) == 2 else "multiclass", classes))
    write_json(layout.metrics(layout.INGEST), _summary(manifest, bad, classes))
    log.info(
        "ingested %s images of %s classes in %s shards; %s quarantined%s",
        f"{len(manifest):,}",
        len(classes),
        packed["shard"].nunique(),
        len(bad),
        f" (see {layout.QUARANTINE})" if len(bad) else "",
    )


def _stop_if_too_many(bad: pd.DataFrame, total: int, share: float) -> None:
    if len(bad) > share * total:
        first = bad.iloc[0]
        raise DataError(
            f"{len(bad)} of {total} images cannot be used, more than ingest.max_quarantined = {share}; "
            f"the first is {first.file}: {first.reason}"
        )


def _summary(manifest: pd.DataFrame, bad: pd.DataFrame, classes: list[str]) -> dict[str, int]:
    return {
        "train_images": int((manifest.split == "train").sum()),
        "test_images": int((manifest.split == "test").sum()),
        "classes": len(classes),
        "quarantined": len(bad),
    }
