"""`goulot audit`: duplicates and near-duplicates over train and test, as the groups that folds must not cut."""

import logging
import shutil

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field
from threadpoolctl import threadpool_limits

from goulot import layout, pictures, targets
from goulot.artifacts import read_json, read_table, write_json, write_table
from goulot.duplicates import alignment, candidates, grouping, hidden_groups, threshold, thumbnails
from goulot.errors import ParamsError, choices
from goulot.features import Features
from goulot.images import Shards
from goulot.params import Section, members
from goulot.progress import timed
from goulot.targets import Target

log = logging.getLogger("goulot")


class Params(Section):
    """When two images count as one, and what to do with groups that grow too large."""

    backbone: str = Field(description="of extract.backbones: its features find candidates; another changes the folds")
    neighbours: int = Field(
        4, ge=1, le=50, description="nearest images looked at, by hash, by spectrum and by features"
    )
    distance: int = Field(90, ge=0, le=256, description="bits of the perceptual hash in which candidates may differ")
    likeness: float | None = Field(None, gt=0, lt=1, description="from which a pair is one image; empty: from the data")
    planted: int = Field(240, ge=60, le=10_000, description="copies made of the data's own images to choose it by")
    seed: int = Field(0, ge=0)
    large_group: float = Field(0.05, gt=0, le=1, description="share of all images above which a group is doubted")
    merge_large: bool = Field(False, description="keep such a group together all the same")
    threads: int = Field(2, ge=1, le=64, description="fixed, since the last bits of a result depend on it")
    pairs_shown: int = Field(12, ge=1, le=100, description="pairs on the contact sheet")


def run(params: Params) -> None:
    """Write groups, pairs, conflicts, twins, the histogram, a contact sheet and metrics."""
    if params.backbone not in (known := members("extract", "backbones")):
        raise ParamsError(choices("audit.backbone", params.backbone, known, "extract.backbones has"))
    shutil.rmtree(layout.AUDIT, ignore_errors=True)
    manifest, target = read_table(layout.MANIFEST), targets.read()
    shards = Shards(layout.SHARDS, manifest)
    with timed("compared features"), threadpool_limits(params.threads):
        near = _near_features(params, manifest)
    pairs, least = _pairs(params, manifest, shards, near)
    group = grouping.groups(len(manifest), pairs)
    sizes = np.bincount(group)
    doubted = np.flatnonzero(sizes > max(2, params.large_group * len(manifest)))
    if len(doubted) and not params.merge_large:
        group = _dissolve(group, doubted, pairs[pairs["kind"].isin(["bytes", "pixels"])])
    chained = grouping.chained(group, (manifest["split"] == "train").to_numpy(), pairs)
    if "group" in manifest:
        group = grouping.merged(group, manifest["group"])
    write_table(layout.GROUPS, manifest[["image_id"]].assign(group=group))
    linked = pd.concat([pairs, chained], ignore_index=True) if len(chained) else pairs
    conflicts, twins = grouping.conflicts(manifest, target, linked), _twins(manifest, linked)
    write_table(layout.PAIRS, _named(manifest, pairs))
    write_table(layout.CONFLICTS, _named(manifest, conflicts, labels=True))
    write_table(layout.TWINS, twins)
    _sheet(params, manifest, shards, pairs)
    summary = _summary(manifest, pairs, np.bincount(group), len(doubted))
    summary |= {"conflicting_pairs": len(conflicts), "test_images_with_a_twin_in_train": twins["test"].nunique()}
    hidden = _hidden(params, manifest, target, group, near)
    write_json(layout.metrics(layout.AUDIT), {**summary, "least_likeness": round(least, 6), "hidden_groups": hidden})
    _report(summary, sizes, doubted, params)
    log.info("a pair is one image from a likeness of %.4f on (%s)", least, "params.yaml" if params.likeness else "data")


def _pairs(params: Params, manifest: pd.DataFrame, shards: Shards, near: np.ndarray) -> tuple[pd.DataFrame, float]:
    """The pairs that count (i < j, kind, likeness, distance, pose) and the threshold, whose histogram is written."""
    kept = layout.AUDIT / "thumbnails.npy"
    with timed(f"read {len(manifest):,} images"):
        digests, small = thumbnails.read(manifest, shards, kept, params.threads)
    count, threads = params.neighbours, params.threads
    train = (manifest["split"] == "train").to_numpy()
    with timed("compared hashes and spectra"), threadpool_limits(threads):
        kinds = {
            "bytes": candidates.equal(manifest["sha256"].to_numpy(), train),
            "pixels": candidates.equal(digests, train),
            "hash": candidates.near_hashes(candidates.perceptual_hashes(small), params.distance, count, threads),
            "spectrum": candidates.near_spectra(small, count, threads),
            "features": candidates.pairs(near),
        }
    parts = [pd.DataFrame(found, columns=["i", "j"], dtype=int).assign(kind=kind) for kind, found in kinds.items()]
    found = pd.concat(parts).drop_duplicates(["i", "j"], ignore_index=True)
    with timed(f"laid {len(found):,} pairs on each other"):
        aligned = alignment.align(small, found[["i", "j"]].to_numpy(), params.threads)
    same = found["kind"].isin(["bytes", "pixels"]).to_numpy()
    likeness = np.where(same, 1.0, aligned.likeness.astype(float)).round(6)
    pose = np.array(thumbnails.POSES)[np.where(same, 0, aligned.pose)]
    found = found.assign(likeness=likeness, distance=(1 - likeness).round(6), pose=pose)
    copies = _planted(params, manifest, shards, small)
    least = params.likeness or threshold.choose(copies, likeness[~same], len(manifest))
    write_table(layout.LIKENESS, threshold.histogram(copies, likeness[~same], least))
    kept.unlink()
    found = found[same | (likeness >= least)]
    return found.sort_values(["distance", "i", "j"], ignore_index=True), least


def _near_features(params: Params, manifest: pd.DataFrame) -> np.ndarray:
    """The nearest images of each by the deepest vector of the images as they are."""
    columns = read_json(layout.features(params.backbone) / "meta.json")["columns"]
    deepest = max(sorted(columns), key=lambda name: (name == "head", columns[name]["multiply_adds"]))
    wanted = manifest[["image_id"]].assign(view=0)

    def read(rows: slice) -> np.ndarray:
        return Features(wanted[rows]).read([(params.backbone, deepest)])

    return candidates.near_features(read, len(wanted), params.neighbours, params.threads)


def _planted(params: Params, manifest: pd.DataFrame, shards: Shards, small: np.ndarray) -> np.ndarray:
    """The likeness of a sample of images to copies made of them, (copies,)."""
    rows = np.random.default_rng(params.seed).choice(
        len(manifest), params.planted, replace=len(manifest) < params.planted
    )
    places = manifest.iloc[rows][["shard", "row", "image_id"]].itertuples(index=False)
    made = [threshold.planted(shards.decode(*place), number) for number, place in enumerate(places)]
    pairs = np.arange(2 * len(rows)).reshape(2, -1).T
    return alignment.align(np.concatenate([small[rows], np.stack(made)]), pairs, params.threads).likeness


def _named(manifest: pd.DataFrame, pairs: pd.DataFrame, *, labels: bool = False) -> pd.DataFrame:
    ids, said = manifest["image_id"].to_numpy(), manifest["label"].to_numpy()
    more = {"label_a": said[pairs["i"]], "label_b": said[pairs["j"]]} if labels else {}
    table = pairs.assign(a=ids[pairs["i"]], b=ids[pairs["j"]], **more)
    return table[["a", "b", *more, "kind", "likeness", "distance", "pose"]]


def _hidden(
    params: Params, manifest: pd.DataFrame, target: Target, group: np.ndarray, near: np.ndarray
) -> dict[str, dict[str, float]]:
    """What else features tell of the training images, beside their labels and the groups that folds keep together."""
    train = np.flatnonzero(manifest["split"] == "train")
    rows = manifest.iloc[train].reset_index(drop=True)
    number = np.full(len(manifest) + 1, -1)  # the last stands for none
    number[train] = np.arange(len(train))
    columns = read_table(layout.COLUMNS).set_index("image_id").loc[rows["image_id"]]
    named = hidden_groups.groupings(rows, columns)
    strata = hidden_groups.strata(target.truth(rows), target)
    found = hidden_groups.told(number[near[train]], group[train], strata, named, params.seed)
    for what, told in found.items():
        log.warning(
            "features tell the %s: %.0f %% of the nearest images share it, %.0f %% by chance. Folds part it, and so "
            "flatter what is scored on images of others: name a column of what is behind it as ingest.train.group",
            what,
            100 * told.share,
            100 * told.by_chance,
        )
    return {what: told._asdict() for what, told in found.items()}


def _twins(manifest: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Test images with a training image that shows the same: test, train, its label, likeness, kind."""
    train = (manifest["split"] == "train").to_numpy()
    across = pairs[train[pairs["i"]] != train[pairs["j"]]]
    known = np.where(train[across["i"]], across["i"], across["j"])
    asked = np.where(train[across["i"]], across["j"], across["i"])
    ids, label = manifest["image_id"].to_numpy(), manifest["label"].to_numpy()
    columns = {"test": ids[asked], "train": ids[known], "label": label[known]}
    return pd.DataFrame({**columns, "likeness": across["likeness"].to_numpy(), "kind": across["kind"].to_numpy()})


def _dissolve(group: np.ndarray, doubted: np.ndarray, exact: pd.DataFrame) -> np.ndarray:
    """Take the doubted groups apart down to images of equal bytes."""
    inside = np.isin(group, doubted)
    return np.where(inside, grouping.groups(len(group), exact) + group.max() + 1, group)


def _sheet(params: Params, manifest: pd.DataFrame, shards: Shards, pairs: pd.DataFrame) -> None:
    def shown(i: int) -> tuple[Image.Image, str]:
        row = manifest.iloc[i]
        return shards.decode(row["shard"], int(row["row"]), row["image_id"]), row["image_id"]

    rows = []
    places = np.unique(np.linspace(0, len(pairs) - 1, min(params.pairs_shown, len(pairs))).round().astype(int))
    for pair in pairs.iloc[places].itertuples():
        (one, name), (other, other_name) = shown(int(str(pair.i))), shown(int(str(pair.j)))
        rows.append([(one, name), (other, f"{other_name} {pair.distance:.4f} {pair.kind}")])
    pictures.sheet(rows, layout.CONTACT_SHEET)


def _summary(manifest: pd.DataFrame, pairs: pd.DataFrame, sizes: np.ndarray, doubted: int) -> dict[str, int]:
    split = manifest["split"].to_numpy()
    return {
        "pairs_of_equal_bytes": int((pairs["kind"] == "bytes").sum()),
        "pairs_of_equal_pixels": int((pairs["kind"] == "pixels").sum()),
        "pairs_of_near_equal_hash": int((pairs["kind"] == "hash").sum()),
        "pairs_of_near_spectra": int((pairs["kind"] == "spectrum").sum()),
        "pairs_of_near_features": int((pairs["kind"] == "features").sum()),
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
