"""`goulot audit`: duplicates and near-duplicates over train and test, as the groups that folds must not cut."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from goulot import duplicates, layout, pictures
from goulot.artifacts import read_table, write_json, write_table
from goulot.images import Shards
from goulot.params import Section
from goulot.progress import track

log = logging.getLogger("goulot")


class Params(Section):
    """When two images count as one, and what to do with groups that grow too large."""

    hash_side: int = Field(
        16,
        description="side of the perceptual hash; its square is the number of bits",
        multiple_of=8,
        ge=8,
        le=32,
    )
    distance: int = Field(10, ge=0, le=256, description="bits of the hash in which near-duplicates may differ")
    large_group: float = Field(0.05, gt=0, le=1, description="share of all images above which a group is doubted")
    merge_large: bool = Field(False, description="keep such a group together all the same")
    threads: int = Field(2, ge=1, le=64, description="images hashed at a time")
    pairs_shown: int = Field(12, ge=1, le=100, description="pairs on the contact sheet")


def run(params: Params) -> None:
    """Write groups.parquet (image_id, group), pairs.parquet, a contact sheet and metrics."""
    shutil.rmtree(layout.AUDIT, ignore_errors=True)
    manifest = read_table(layout.MANIFEST)
    shards = Shards(layout.SHARDS, manifest)
    pairs = _pairs(params, manifest, shards)
    group = duplicates.groups(len(manifest), pairs)
    sizes = np.bincount(group)
    doubted = np.flatnonzero(sizes > max(2, params.large_group * len(manifest)))
    if len(doubted) and not params.merge_large:
        group = _dissolve(group, doubted, pairs[pairs["kind"] == "bytes"])
    if "group" in manifest:
        group = duplicates.merged(group, manifest["group"])
    table = manifest[["image_id"]].assign(group=group)
    write_table(layout.GROUPS, table)
    ids = manifest["image_id"].to_numpy()
    write_table(layout.PAIRS, pairs.assign(a=ids[pairs["i"]], b=ids[pairs["j"]])[["a", "b", "distance", "kind"]])
    _sheet(params, manifest, shards, pairs)
    summary = _summary(manifest, pairs, np.bincount(group), len(doubted))
    write_json(layout.metrics(layout.AUDIT), summary)
    _report(summary, sizes, doubted, params)


def _pairs(params: Params, manifest: pd.DataFrame, shards: Shards) -> pd.DataFrame:
    def hashed(place: tuple[str, int, str]) -> np.ndarray:
        return duplicates.perceptual_hash(shards.decode(*place), params.hash_side)

    places = list(zip(manifest["shard"], manifest["row"], manifest["image_id"], strict=True))
    with ThreadPoolExecutor(params.threads) as pool:
        hashes = np.stack(list(track(pool.map(hashed, places), total=len(places), unit="images", label="audit")))
    pairs = pd.DataFrame(duplicates.near_pairs(hashes, params.distance), columns=["i", "j", "distance"], dtype=int)
    content = manifest["sha256"].to_numpy()
    equal = content[pairs["i"]] == content[pairs["j"]]
    return pairs.assign(kind=np.where(equal, "bytes", "hash")).sort_values(["distance", "i", "j"], ignore_index=True)


def _dissolve(group: np.ndarray, doubted: np.ndarray, exact: pd.DataFrame) -> np.ndarray:
    """Take the doubted groups apart down to images of equal bytes."""
    inside = np.isin(group, doubted)
    return np.where(inside, duplicates.groups(len(group), exact) + group.max() + 1, group)


def _sheet(params: Params, manifest: pd.DataFrame, shards: Shards, pairs: pd.DataFrame) -> None:
    def shown(i: int) -> tuple[Image.Image, str]:
        row = manifest.iloc[i]
        return shards.decode(row["shard"], int(row["row"]), row["image_id"]), row["image_id"]

    rows = []
    for pair in pairs.head(params.pairs_shown).itertuples():
        (one, name), (other, other_name) = shown(int(str(pair.i))), shown(int(str(pair.j)))
        rows.append([(one, name), (other, f"{other_name} ({pair.distance} bits)")])
    pictures.sheet(rows, layout.CONTACT_SHEET)


def _summary(manifest: pd.DataFrame, pairs: pd.DataFrame, sizes: np.ndarray, doubted: int) -> dict[str, int]:
    split = manifest["split"].to_numpy()
    return {
        "pairs_of_equal_bytes": int((pairs["kind"] == "bytes").sum()),
        "pairs_of_near_equal_hash": int((pairs["kind"] == "hash").sum()),
        "pairs_across_train_and_test": int((split[pairs["i"]] != split[pairs["j"]]).sum()),
        "groups_of_two_or_more": int((sizes > 1).sum()),
        "groups_doubted": doubted,
    }


def _report(summary: dict[str, int], sizes: np.ndarray, doubted: np.ndarray, params: Params) -> None:
    log.info("audited: %s", ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in summary.items()))
    for group in doubted:
        verdict = "kept together" if params.merge_large else "not merged (audit.merge_large: true would)"
        log.warning(
            "a group of %d near-identical images, more than audit.large_group = %s of all: %s",
            sizes[group],
            params.large_group,
            verdict,
        )
