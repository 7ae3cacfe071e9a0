"""From a survey to the layout: the sample submission, the test images, the training images and their labels."""

from dataclasses import dataclass, field, replace
from typing import Any

from goulot.discovery import labels, testset, trainset
from goulot.discovery.labels import Labels
from goulot.discovery.matching import best, decided
from goulot.discovery.survey import TEST, TRAIN, Survey
from goulot.discovery.testset import TestSet
from goulot.discovery.trainset import Given
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


def deduce(found: Survey, given: Given | None = None) -> Found:
    """Work the layout out. Raises DataError, listing what was seen, where it cannot or where nothing decides."""
    given = given or Given()
    if given.table is not None and given.table not in found.tables:
        raise DataError(choices("table", given.table, found.tables, "the tables that were read are"))
    if parted := split_column(found, given):
        layout = _by_split(found, given, *parted)
        return replace(layout, test=None) if given.no_test else layout
    sample = testset.sample_submission(found)
    rows = found.tables[sample].rows if sample else None
    test = TestSet({}, frozenset()) if given.no_test else testset.find(found, sample, given.image)
    by_table = trainset.by_table(found, sample, test, rows, given)
    if by_table is None:
        spec, by_path = trainset.by_path(found, test, rows, given)
        return Found(spec, test.spec or None, sample, by_path, [], _unused(found, sample, test, None))
    match, told = by_table
    table = found.tables[match.table]
    used = {match.column, *told.columns, *Pattern(match.pattern).names}
    train: dict[str, Any] = {"table": match.table, "id": match.column, **_label_spec(told), "image": match.by_id}
    rest = [name for name in table.rows.columns if name not in used]
    if group := labels.group(table.rows, rest, told, test.table.rows if test.table is not None else None):
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
        ways = trainset.ways_of(found, part, TestSet({}, frozenset()))
        way = decided(best(trainset.preferred(ways, part, None), wanted, unwanted), found) if ways else None
        if way is None:
            raise DataError(f"no column of {table.name} leads to the {split} images; seen: {found.seen()}")
        value = table.rows[column][part.rows.index[0]]
        specs[split] = {"table": table.name, "id": way.column, "image": way.by_id, "where": {column: value}}
        keys = {way.column for way in ways}
    told = trainset.labels_of(train, keys, None, None, given)
    if not isinstance(told, Labels):
        raise DataError(trainset.which_label(table.name, told))
    specs["train"] |= _label_spec(told)
    rest = [name for name in train.rows.columns if name not in {*keys, *told.columns}]
    if group := labels.group(train.rows, rest, told, test.rows):
        specs["train"]["group"] = group
    sample = testset.sample_submission(found)
    return Found(specs["train"], specs["test"], sample, told.why, [],
                 [name for name in found.tables if name not in (table.name, sample)])  # fmt: skip


def _label_spec(told: Labels) -> dict[str, Any]:
    if len(told.columns) > 1:
        return {"labels": told.columns}
    return {"label": told.columns[0], **({"separator": told.separator} if told.separator else {})}


def _unused(found: Survey, sample: str | None, test: TestSet, train: str | None) -> list[str]:
    return [name for name in found.tables if name not in (sample, train, test.spec.get("table"))]
