"""`goulot ingest`: check every image, read the labels, pack the good images into shards."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pandas as pd
from pydantic import Field

from goulot import dataset, images, labelling, layout, tables, targets
from goulot.artifacts import write_json, write_table
from goulot.dataset import Listing
from goulot.errors import DataError, choices
from goulot.params import Section, Text
from goulot.patterns import Files
from goulot.progress import track
from goulot.targets import Target

SAMPLE = "sample_submission.csv"
ASIDE = ["image_id", "split", "id", "file", "reason"]
DROPPED = "ingest.drop leaves it out"
log = logging.getLogger("goulot")


class Params(Section):
    """How the competition's files are laid out below `data/raw/`."""

    train: dataset.LabelledImages = Field(description="the training images and their labels")
    test: dataset.Images | None = Field(description="the test images; null where there are none")
    task: Literal["auto", "binary", "multiclass", "ordinal", "multilabel", "regression"] = Field(
        "auto", description="auto reads it off the labels and the sample submission"
    )
    classes: list[Text] | None = Field(
        None,
        description="the classes in their order, for the auto one is not it: grades from the lowest; of two the second "
        "is the one that F1 and a single column of probabilities, or of 0 and 1, are of",
    )
    sample: str = Field(
        SAMPLE, description="the sample submission below data/raw; that of the usual name may be missing"
    )
    extra: list[str] = Field([], description="columns of both tables that the learners are given beside the features")
    drop: list[str] = Field([], description="ids of training images to leave out, as data/review/doubts.csv has them")
    unlabelled: Literal["refuse", "quarantine"] = Field("refuse", description="a training row without a label")
    max_quarantined: float = Field(
        0.02, ge=0, le=1, description="largest share of unreadable images; above it the run stops"
    )
    shard_mib: int = Field(64, ge=1, le=2048, description="size of a shard of packed images")
    threads: int = Field(2, ge=1, le=64, description="images checked at a time")


def run(params: Params) -> None:
    """Write the manifest, the target, the other columns, the quarantine and the shards."""
    shutil.rmtree(layout.INGEST, ignore_errors=True)
    files = Files(layout.RAW)
    train, test, left = _listed(params, files)
    sample = _sample(params)
    found = labelling.target(
        train.cells, params.train.columns, params.train.separator, params.task, sample, params.classes
    )
    labels = labelling.columns(train.cells, params.train.columns, params.train.separator, found)
    listed = pd.concat([train.rows.join(labels), test.rows]).sort_values("image_id", ignore_index=True)
    table = _checked(listed, params.threads)
    good, bad = table[table["reason"] == ""], table[table["reason"] != ""]
    _stop_if_too_many(bad, len(table), params.max_quarantined)
    manifest = _packed(good.drop(columns="reason"), params.shard_mib)
    _refuse_lost_classes(manifest, found)
    aside = pd.concat([bad, left, _unlisted(params, files, pd.concat([table, left]))])[ASIDE]
    write_table(layout.MANIFEST, manifest)
    write_table(layout.QUARANTINE, aside.reset_index(drop=True))
    targets.write(found)
    write_table(layout.SAMPLE_SUBMISSION, _made_up(test, found) if sample is None or params.test is None else sample)
    if params.extra:
        write_table(layout.EXTRA, _extra(params, train, test, manifest))
    write_table(layout.COLUMNS, _others(params, train, manifest))
    write_json(layout.metrics(layout.INGEST), _summary(manifest, aside, found))
    _report(manifest, aside, found)


def _listed(params: Params, files: Files) -> tuple[Listing, Listing, pd.DataFrame]:
    """The labelled training rows, the test rows, and the training rows that are left out, which have a reason."""
    test = dataset.listing(files, params.test, "test") if params.test else dataset.nothing("test")
    # Class folders beside the test folder: a pattern such as {label}/{id}.jpg would take the test set for a class.
    train = dataset.listing(files, params.train, "train", leave_out=frozenset(test.rows["file"]))
    if params.train.table is not None:
        train.cells[params.train.columns] = _label_cells(params, train)
    train, dropped = _dropped(params, train)
    blank = pd.Series(False, index=train.rows.index)
    if params.train.separator is None:
        for name in params.train.columns:
            blank |= tables.is_blank(train.cells[name])
    if blank.any() and params.unlabelled == "refuse":
        raise DataError(
            f"{blank.index[blank][0]}: {' or '.join(map(repr, params.train.columns[:3]))} is empty "
            f"({int(blank.sum())} such rows); ingest.unlabelled: quarantine sets them aside"
        )
    return train.only(~blank), test, pd.concat([train.rows[blank].assign(reason="it has no label"), dropped])


def _dropped(params: Params, train: Listing) -> tuple[Listing, pd.DataFrame]:
    """The training rows that stay, and those of `ingest.drop`."""
    ids = train.rows["image_id"]
    unknown = sorted(set(params.drop) - set(ids))
    if unknown:
        known = choices("training image", unknown[0], ids.head(3), "there are for example")
        raise DataError(f"params.yaml: ingest.drop: {known} ({len(unknown)} such ids)")
    out = ids.isin(params.drop)
    return train.only(~out), train.rows[out].assign(reason=DROPPED)


def _label_cells(params: Params, train: Listing) -> pd.DataFrame:
    lacking = [name for name in params.train.columns if name not in train.cells]
    if lacking:
        there = ", ".join(map(repr, train.cells.columns[:20]))
        raise DataError(f"{layout.RAW / str(params.train.table)} has no column {lacking[0]!r}; it has {there}")
    return train.cells[params.train.columns]


def _sample(params: Params) -> pd.DataFrame | None:
    if params.sample == SAMPLE and not (layout.RAW / params.sample).is_file():
        return None
    sample = tables.read(layout.RAW, params.sample).rows
    if sample.empty:
        raise DataError(
            f"{layout.RAW / params.sample} has a header but no rows; a submission takes its ids from them: complete "
            "it, or take it away if a submission is to have every test image"
        )
    return sample


def _made_up(test: Listing, found: Target) -> pd.DataFrame:
    """What a submission is to look like where the competition does not say: a class, or a column each."""
    columns = {"label": found.names[0]} if found.exclusive else dict.fromkeys(found.names, "0")
    return pd.DataFrame({"id": test.rows["id"].to_numpy(), **columns})


def _checked(listed: pd.DataFrame, threads: int) -> pd.DataFrame:
    paths = [layout.RAW / file for file in listed["file"]]
    with ThreadPoolExecutor(threads) as pool:
        checks = list(track(pool.map(images.check, paths), total=len(paths), unit="images", label="ingest"))
    return listed.join(pd.DataFrame(checks, index=listed.index))


def _packed(good: pd.DataFrame, shard_mib: int) -> pd.DataFrame:
    paths = zip(good["image_id"], (layout.RAW / file for file in good["file"]), strict=True)
    places = images.pack(paths, layout.SHARDS, shard_bytes=shard_mib * 2**20)
    packed = pd.DataFrame(places, columns=["image_id", "shard", "row"])
    return good.merge(packed, on="image_id", validate="one_to_one")


def _stop_if_too_many(bad: pd.DataFrame, total: int, share: float) -> None:
    if len(bad) > share * total:
        first = bad.iloc[0]
        raise DataError(
            f"{len(bad)} of {total} images cannot be used, more than ingest.max_quarantined = {share}; "
            f"the first is {first['file']}: {first['reason']}"
        )


def _refuse_lost_classes(manifest: pd.DataFrame, found: Target) -> None:
    """A class whose every image is in quarantine would be a name that nothing can be learnt of."""
    if found.exclusive and (lost := set(found.names) - set(manifest["label"])):
        raise DataError(f"every image of class {min(lost)!r} cannot be used; see why by ingest.max_quarantined: 0")


def _unlisted(params: Params, files: Files, table: pd.DataFrame) -> pd.DataFrame:
    """Images that no table names, and files whose names no table can hold."""
    used = frozenset(table["file"])
    rows = [
        (file, "no table names it")
        for file in dataset.unlisted(files, [s for s in (params.train, params.test) if s], used)
    ]
    rows += [(ascii(file)[1:-1], "its name is not UTF-8") for file in files.unnameable]
    return pd.DataFrame([("", "", "", *row) for row in rows], columns=ASIDE, dtype=object)


def _extra(params: Params, train: Listing, test: Listing, manifest: pd.DataFrame) -> pd.DataFrame:
    """image_id and the extra columns: float64 with NaN where a cell is empty, or text where one is no number."""
    parts = [(train, params.train, "train"), *([(test, params.test, "test")] if params.test else [])]
    for part, spec, split in parts:
        taken = {spec.id, *getattr(spec, "columns", []), getattr(spec, "group", None)}
        if told := [name for name in params.extra if name in taken]:
            raise DataError(f"ingest.extra names {told[0]!r}, which ingest.{split} has as id, label or group: omit it")
        lacking = [name for name in params.extra if name not in part.cells]
        if lacking:
            raise DataError(f"ingest.extra names {lacking[0]!r}, which ingest.{split} ({spec.table}) lacks")
    cells = pd.concat([part.cells[params.extra].set_axis(part.rows["image_id"]) for part, _, _ in parts])
    table = manifest[["image_id"]].copy()
    for name in params.extra:
        text = cells[name].where(~tables.is_blank(cells[name]))
        numbers = pd.to_numeric(text, errors="coerce")
        column = numbers.astype("float64") if numbers.notna().equals(text.notna()) else cells[name].astype(str)
        table[name] = column.reindex(table["image_id"]).to_numpy()
    return table


def _others(params: Params, train: Listing, manifest: pd.DataFrame) -> pd.DataFrame:
    """image_id and what else the table or the path says of the training images, as text."""
    known = {"image_id", params.train.id or "id", *params.train.columns}
    cells = train.cells.drop(columns=[name for name in train.cells if name in known]).astype(str)
    cells = cells.set_axis(train.rows["image_id"].to_numpy())
    ids = manifest.loc[manifest["split"] == "train", "image_id"]
    return cells.loc[ids].rename_axis("image_id").reset_index()


def _summary(manifest: pd.DataFrame, aside: pd.DataFrame, found: Target) -> dict[str, int]:
    return {
        "train_images": int((manifest["split"] == "train").sum()),
        "test_images": int((manifest["split"] == "test").sum()),
        "classes": len(found.names),
        "quarantined": int(((aside["split"] != "") & (aside["reason"] != DROPPED)).sum()),
        "dropped": int((aside["reason"] == DROPPED).sum()),
        "unlisted": int((aside["split"] == "").sum()),
    }


def _report(manifest: pd.DataFrame, aside: pd.DataFrame, found: Target) -> None:
    log.info(
        "ingested %s images in %s shards: %s of %s",
        f"{len(manifest):,}",
        manifest["shard"].nunique(),
        found.task,
        ", ".join(found.names[:6]) + (f" and {len(found.names) - 6} more" if len(found.names) > 6 else ""),
    )
    for reason, count in aside["reason"].map(lambda text: text.partition(":")[0]).value_counts().items():
        log.warning("set aside %s: %s (see %s)", f"{count:,}", reason, layout.QUARANTINE)
    if found.exclusive:
        counts = manifest["label"].value_counts()
        if len(rare := counts[counts < 2]):
            log.warning("%d classes have a single image, first %s", len(rare), rare.index[0])
