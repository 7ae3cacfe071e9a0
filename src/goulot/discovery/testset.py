"""The images that are asked about: the sample submission, and where the test images lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from goulot.discovery import folders
from goulot.discovery.matching import best, decided, matches
from goulot.discovery.survey import SAMPLE, TEST, TRAIN, Survey
from goulot.errors import DataError
from goulot.tables import Table


@dataclass(frozen=True)
class TestSet:
    """The layout as `params.yaml` writes it below `ingest.test`, the files, and the table that names them."""

    spec: dict[str, Any]
    files: frozenset[str]
    table: Table | None = None


def sample_submission(found: Survey) -> str | None:
    """The sample submission: by its name, and where there are several by how many of its ids are images.

    Raises DataError where it has no target.
    """
    named = [name for name in found.tables if SAMPLE.search(name.rpartition("/")[2])]
    named = [name for name in named if name.endswith((".csv", ".tsv", ".txt"))]
    if not named:
        return None

    def fit(name: str) -> tuple[float, bool, int]:
        table = found.tables[name]
        hits = matches(found, table, table.rows.columns[0])
        return (max((m.coverage for m in hits), default=0.0), "sample" in name.lower(), -len(name))

    likely = max(named, key=fit) if len(named) > 1 else named[0]
    columns = list(found.tables[likely].rows.columns)
    if len(columns) < 2:
        raise DataError(f"{likely} has the column {columns[0]!r} alone; an id and at least one target are needed")
    return likely


def find(found: Survey, sample: str | None, train: str | None = None) -> TestSet:
    """By the sample submission, else a table, else a folder that is named for it. Raises DataError where none is.

    `train` is the training images' pattern where a person has said it: the test images' names are then like it.
    """
    if sample is not None:
        return _of_sample(found, sample, train)
    for name, table in found.tables.items():
        columns = list(table.rows.columns)
        if TEST.search(name.rpartition("/")[2]) and (made := _by_columns(found, table, columns, train=train)):
            return made
    return _of_folder(found)


def _of_sample(found: Survey, sample: str, train: str | None) -> TestSet:
    """By a test table that has the sample's ids, which may say more of each image; else by the sample itself."""
    table = found.tables[sample]
    column = table.rows.columns[0]
    ids = set(table.rows[column])
    for other in found.tables.values():
        for key in sorted(other.rows.columns, key=lambda name: name != column):
            if other.name != sample and len(other.rows) == len(ids) and set(other.rows[key]) == ids:
                rest = [name for name in other.rows.columns if name != key]
                if made := _by_columns(found, other, [key, *rest], key, train):
                    return made
    if made := _by_columns(found, table, [column], column, train):
        return made
    raise DataError(
        f"no image is named by the ids of {sample} ({column!r}: {', '.join(sorted(ids)[:2])}){found.nearly(ids)}; "
        f"seen: {found.seen()}"
    )


def _by_columns(
    found: Survey, table: Table, columns: Sequence[str], key: str | None = None, train: str | None = None
) -> TestSet | None:
    """The test images by the first column that leads to files; `key` is the column of ids, by default that one."""
    for column in columns:
        ways = matches(found, table, column)
        alike = [way for way in ways if train and _name(way.by_id) == _name(train)]
        if match := decided(best(alike or ways, TEST, TRAIN), found):
            own = key or column
            image = match.pattern if own != column else match.by_id
            return TestSet({"table": table.name, "id": own, "image": image}, match.files, table)
    return None


def _name(pattern: str) -> str:
    return pattern.rpartition("/")[2]


def _of_folder(found: Survey) -> TestSet:
    """Without a table: the folder that is named for it."""
    named = {folder for folder in found.under if TEST.search(folder.rpartition("/")[2])}
    top = sorted(folder for folder in named if not any(folder.startswith(other + "/") for other in named))
    top = [folder for folder in top if "test" in folder.rpartition("/")[2].lower()] or top
    if len(top) != 1:
        what = f"{len(top)} folders are named for it ({', '.join(top)})" if top else "no folder is named for it"
        raise DataError(
            f"which are the test images? There is no sample submission, no test table, and {what}; seen: "
            f"{found.seen()}; --no-test if there are none"
        )
    files = [file for file in found.images if file.startswith(f"{top[0]}/")]
    deep = any(file.count("/") > top[0].count("/") + 1 for file in files)
    image = f"{top[0]}/{'{id:path}' if deep else '{id}'}{folders.suffix(files)}"
    return TestSet({"image": image}, frozenset(files))
