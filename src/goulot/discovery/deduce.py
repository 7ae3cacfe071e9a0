"""From a survey to the layout: the sample submission, the test images, the training images and their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from goulot.discovery import folders, labels
from goulot.discovery.labels import Labels
from goulot.discovery.matching import Match, best, matches
from goulot.discovery.survey import SAMPLE, TEST, TRAIN, Survey
from goulot.errors import DataError, choices
from goulot.patterns import Pattern
from goulot.tables import Table


@dataclass(frozen=True)
class Found:
    """The layout as `params.yaml` writes it below `ingest`, and how it was told, in words."""

    train: dict[str, Any]
    test: dict[str, Any] | None
    sample: str | None
    why: str
    further: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Test:
    spec: dict[str, Any]
    files: frozenset[str]
    table: Table | None = None


@dataclass(frozen=True)
class Given:
    """What a person has said of the layout, each None where it is to be worked out; `no_test`: there is no test set."""

    table: str | None = None
    label: str | None = None
    image: str | None = None
    no_test: bool = False


def deduce(found: Survey, given: Given | None = None) -> Found:
    """Work the layout out. Raises DataError, listing what was seen, where it cannot or where nothing decides."""
    given = given or Given()
    if given.table is not None and given.table not in found.tables:
        raise DataError(choices("table", given.table, found.tables, "the tables that were read are"))
    if parted := split_column(found, given):
        layout = _by_split(found, given, *parted)
        return replace(layout, test=None) if given.no_test else layout
    sample = _sample(found)
    rows = found.tables[sample].rows if sample else None
    test = _Test({}, frozenset()) if given.no_test else _test(found, sample)
    by_table = _train_by_table(found, sample, test, rows, given)
    if by_table is None:
        spec, by_path = _train_by_path(found, test, rows, given)
        return Found(spec, test.spec or None, sample, by_path, [], _unused(found, sample, test, None))
    match, told = by_table
    table = found.tables[match.table]
    used = {match.column, *told.columns, *Pattern(match.pattern).names}
    train: dict[str, Any] = {"table": match.table, "id": match.column, **_label_spec(told), "image": _as_id(match)}
    rest = [name for name in table.rows.columns if name not in used]
    if group := labels.group(table.rows, rest, told):
        train["group"] = group
    extra = labels.further(table.rows, test.table.rows, {*used, group or ""}) if test.table is not None else []
    return Found(train, test.spec or None, sample, told.why, extra, _unused(found, sample, test, match.table))


def split_column(found: Survey, given: Given) -> tuple[Table, str] | None:
    """A table and the column of it that parts its rows into training and test images, where one does."""
    for name, table in found.tables.items():
        if given.table not in (None, name) or len(table.rows) < 4:
            continue
        for column in table.rows.columns:
            values = set(table.rows[column].str.strip().str.lower())
            if "test" in values and values & {"train", "training"} and len(values) <= 5:
                return table, column
    return None


def _by_split(found: Survey, given: Given, table: Table, column: str) -> Found:
    """Both sets by one table, parted by a column."""
    said = table.rows[column].str.strip().str.lower()
    parts = {part: replace(table, rows=table.rows[said == part].drop(columns=column)) for part in said.unique()}
    train, test = parts["train" if "train" in parts else "training"], parts["test"]
    specs: dict[str, dict[str, Any]] = {}
    for split, part, wanted, unwanted in (("train", train, TRAIN, TEST), ("test", test, TEST, TRAIN)):
        ways = _ways(found, part, _Test({}, frozenset()))
        way = _decided(best(_preferred(ways, part, None), wanted, unwanted), found) if ways else None
        if way is None:
            raise DataError(f"no column of {table.name} leads to the {split} images; seen: {found.seen()}")
        value = table.rows[column][part.rows.index[0]]
        specs[split] = {"table": table.name, "id": way.column, "image": _as_id(way), "where": {column: value}}
        keys = {way.column for way in ways}
    told = _told(train, keys, None, None, given)
    if not isinstance(told, Labels):
        raise DataError(_which_label(table.name, told))
    specs["train"] |= _label_spec(told)
    rest = [name for name in train.rows.columns if name not in {*keys, *told.columns}]
    if group := labels.group(train.rows, rest, told):
        specs["train"]["group"] = group
    sample = _sample(found)
    return Found(specs["train"], specs["test"], sample, told.why, [],
                 [name for name in found.tables if name not in (table.name, sample)])  # fmt: skip


def _which_label(table: str, columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:8])
    return f"which column of {table} is the label: {shown}? Say so by --label, e.g. --label {columns[0]!r}"


def _label_spec(told: Labels) -> dict[str, Any]:
    if len(told.columns) > 1:
        return {"labels": told.columns}
    return {"label": told.columns[0], **({"separator": told.separator} if told.separator else {})}


def _as_id(match: Match) -> str:
    return match.pattern.replace(f"{{{match.column}}}", "{id}")


def _unused(found: Survey, sample: str | None, test: _Test, train: str | None) -> list[str]:
    return [name for name in found.tables if name not in (sample, train, test.spec.get("table"))]


def _sample(found: Survey) -> str | None:
    """The sample submission: by its name, and where there are several by how many of its ids are images."""
    named = [name for name in found.tables if SAMPLE.search(name.rpartition("/")[2])]
    named = [name for name in named if name.endswith((".csv", ".tsv", ".txt"))]
    if len(named) < 2:
        return named[0] if named else None

    def fit(name: str) -> tuple[float, bool, int]:
        table = found.tables[name]
        hits = matches(found, table, table.rows.columns[0])
        return (max((m.coverage for m in hits), default=0.0), "sample" in name.lower(), -len(name))

    return max(named, key=fit)


def _test(found: Survey, sample: str | None) -> _Test:
    if sample is not None:
        return _test_of_sample(found, sample)
    for name, table in found.tables.items():
        if TEST.search(name.rpartition("/")[2]) and (made := _by_columns(found, table, list(table.rows.columns))):
            return made
    return _test_of_folder(found)


def _test_of_sample(found: Survey, sample: str) -> _Test:
    """By a test table that has the sample's ids, which may say more of each image; else by the sample itself."""
    table = found.tables[sample]
    column = table.rows.columns[0]
    ids = set(table.rows[column])
    for other in found.tables.values():
        for key in sorted(other.rows.columns, key=lambda name: name != column):
            if other.name != sample and len(other.rows) == len(ids) and set(other.rows[key]) == ids:
                rest = [name for name in other.rows.columns if name != key]
                if made := _by_columns(found, other, [key, *rest], key):
                    return made
    if made := _by_columns(found, table, [column], column):
        return made
    raise DataError(
        f"no image is named by the ids of {sample} ({column!r}: {', '.join(list(ids)[:2])}); seen: {found.seen()}"
    )


def _by_columns(found: Survey, table: Table, columns: Sequence[str], key: str | None = None) -> _Test | None:
    """The test images by the first column that leads to files; `key` is the column of ids, by default that one."""
    for column in columns:
        if match := _decided(best(matches(found, table, column), TEST, TRAIN), found):
            own = key or column
            image = match.pattern if own != column else _as_id(match)
            return _Test({"table": table.name, "id": own, "image": image}, match.files, table)
    return None


def _test_of_folder(found: Survey) -> _Test:
    """Without a table: the folder that is named for it."""
    named = {folder for folder in found.under if TEST.search(folder.rpartition("/")[2])}
    top = sorted(folder for folder in named if not any(folder.startswith(other + "/") for other in named))
    if len(top) != 1:
        what = f"{len(top)} folders are named for it ({', '.join(top)})" if top else "no folder is named for it"
        raise DataError(
            f"which are the test images? There is no sample submission, no test table, and {what}; seen: "
            f"{found.seen()}; --no-test if there are none"
        )
    files = [file for file in found.images if file.startswith(f"{top[0]}/")]
    deep = any(file.count("/") > top[0].count("/") + 1 for file in files)
    image = f"{top[0]}/{'{id:path}' if deep else '{id}'}{folders.suffix(files)}"
    return _Test({"image": image}, frozenset(files))


def _train_by_table(
    found: Survey, sample: str | None, test: _Test, rows: pd.DataFrame | None, given: Given
) -> tuple[Match, Labels] | None:
    """The table that names images and their labels. Raises DataError where two do, or where the label is in doubt."""
    complete, doubtful = [], []
    for name, table in found.tables.items():
        if given.table is not None and name != given.table:
            continue
        if name in (sample, test.spec.get("table")) or (TEST.search(name) and not TRAIN.search(name)):
            continue
        ways = _given_image(_ways(found, table, test), given)
        if not ways:
            continue
        keys = {way.column for way in ways}
        told = _told(table, keys, rows, test.table, given)
        match = _decided(best(_preferred(ways, table, rows)), found)
        if match is not None and isinstance(told, Labels):
            complete.append((match, told))
        elif isinstance(told, list) and told:
            doubtful.append((name, told))
    if complete:
        return _one_table(complete)
    if doubtful:
        name, columns = doubtful[0]
        raise DataError(_which_label(name, columns))
    return None


def _told(
    table: Table, keys: set[str], rows: pd.DataFrame | None, test: Table | None, given: Given
) -> Labels | list[str]:
    if given.label is None:
        return labels.find(table, keys, rows, test)
    return Labels([given.label], labels.separator(table.column(given.label)), "you said so")


def _given_image(ways: list[Match], given: Given) -> list[Match]:
    if given.image is None:
        return ways
    return [way for way in ways if given.image in (way.pattern, _as_id(way))]


def _ways(found: Survey, table: Table, test: _Test) -> list[Match]:
    """The columns of all but unique cells that lead to images other than the test set's."""
    unique = [column for column in table.rows.columns if table.rows[column].nunique() >= 0.98 * len(table.rows)]
    ways = [match for column in unique for match in matches(found, table, column)]
    return [way for way in ways if len(way.files & test.files) <= 0.1 * len(way.files)]


def _preferred(ways: Sequence[Match], table: Table, rows: pd.DataFrame | None) -> list[Match]:
    """Those of one column: the one named as the sample's ids, or that of the best coverage, or the first."""
    named = [way for way in ways if rows is not None and way.column == rows.columns[0]]
    pool = named or list(ways)
    top = max(way.coverage for way in pool)
    column = next(
        name for name in table.rows.columns if any(w.column == name and w.coverage >= top - 0.01 for w in pool)
    )
    return [way for way in pool if way.column == column]


def _one_table(complete: list[tuple[Match, Labels]]) -> tuple[Match, Labels]:
    def rank(entry: tuple[Match, Labels]) -> tuple[float, ...]:
        match, told = entry
        return ("sample" in told.why, round(match.coverage, 1), bool(TRAIN.search(match.table)), len(match.files))

    ordered = sorted(complete, key=rank, reverse=True)
    if len(ordered) > 1 and rank(ordered[0]) == rank(ordered[1]):
        both = ", ".join(f"{match.table} ({', '.join(told.columns[:3])})" for match, told in ordered[:3])
        raise DataError(f"which table holds the labels: {both}? Say so by --table")
    return ordered[0]


def _train_by_path(found: Survey, test: _Test, rows: pd.DataFrame | None, given: Given) -> tuple[dict[str, Any], str]:
    hints = frozenset() if rows is None else frozenset({*rows.columns[1:], *rows.iloc[:, 1].astype(str)})
    if given.image is not None:
        return {"image": given.image}, "you said so"
    ways = folders.by_folder(found, test.files)
    why = "a folder a class"
    if not ways:
        ways, why = folders.by_name(found, test.files, hints), "the file names hold it"
    if not ways:
        raise DataError(f"no table, no folders and no file names tell the labels; seen: {found.seen()}")
    if len(ways) > 1:
        known = [way for way in ways if hints & set(way.labels)]
        if len(known) != 1:
            shown = " or ".join(f"{way.pattern} ({', '.join(way.labels[:4])})" for way in ways[:3])
            raise DataError(f"which are the training images: {shown}? Say so by --image")
        ways = known
    return {"image": ways[0].pattern}, why


def _decided(candidates: Sequence[Match], found: Survey) -> Match | None:
    if len(candidates) > 1:
        shown = " or ".join(match.pattern for match in candidates[:4])
        raise DataError(f"{candidates[0].table}: {candidates[0].column!r} leads to {shown}; say which by --image")
    return candidates[0] if candidates else None
