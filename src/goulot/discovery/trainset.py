"""The images that are known: the table, the folders or the names that tell the training images' labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from goulot.discovery import folders, labels
from goulot.discovery.labels import Labels
from goulot.discovery.matching import Match, best, decided, matches
from goulot.discovery.survey import LABELLED, TEST, TRAIN, Survey
from goulot.discovery.testset import TestSet
from goulot.errors import DataError
from goulot.patterns import is_image
from goulot.tables import Table


@dataclass(frozen=True)
class Given:
    """What a person has said of the layout, empty where it is to be worked out; `no_test`: there is no test set."""

    table: str | None = None
    label: tuple[str, ...] = ()
    image: str | None = None
    no_test: bool = False


def by_table(
    found: Survey, sample: str | None, test: TestSet, rows: pd.DataFrame | None, given: Given
) -> tuple[Match, Labels] | None:
    """The table that names images and their labels. Raises DataError where two do, or where the label is in doubt."""
    complete, doubtful = [], []
    for name, table in found.tables.items():
        if given.table is not None and name != given.table:
            continue
        if name in (sample, test.spec.get("table")) or (TEST.search(name) and not TRAIN.search(name)):
            continue
        ways = _given_image(ways_of(found, table, test), given)
        if not ways or (given.table is None and not set(given.label) <= set(table.rows.columns)):
            continue
        keys = {way.column for way in ways}
        told = labels_of(table, keys, rows, test.table, given)
        match = decided(best(preferred(ways, table, rows)), found)
        if match is not None and isinstance(told, Labels):
            complete.append((match, told))
        elif isinstance(told, list) and told:
            doubtful.append((name, told))
    if complete:
        return _one_table(complete)
    if doubtful:
        name, columns = doubtful[0]
        raise DataError(which_label(name, columns))
    if given.table or given.label:
        said = given.table or f"a table with {', '.join(given.label)}"
        raise DataError(f"no column of {said} leads to images{_repeated(found, test)}; seen: {found.seen()}")
    return None


def _repeated(found: Survey, test: TestSet) -> str:
    """What is to be said of tables whose column leads to images, several rows an image."""
    for name, table in found.tables.items():
        for column in table.rows.columns:
            ways = matches(found, table, column) if name != test.spec.get("table") else []
            if table.rows[column].nunique() < 0.98 * len(table.rows) and any(way.files - test.files for way in ways):
                return (
                    f"; {name} has several rows an image ({column!r}): an image is one row, its labels in one cell or "
                    "in a column each"
                )
    return ""


def _bare(found: Survey, test: TestSet, rows: pd.DataFrame | None) -> str:
    """What is to be said of tables whose paths lead nowhere, or that have nothing to tell images apart by."""
    for name, table in found.tables.items():
        if name == test.spec.get("table") or (rows is not None and table.rows.equals(rows)):
            continue
        ways = ways_of(found, table, test)
        if ways and labels.find(table, {way.column for way in ways}, rows, test.table) == []:
            return f"; {which_label(name, [])}"
        for column in table.rows.columns:
            first = str(table.rows[column].iloc[0]) if len(table.rows) else ""
            if ("/" in first or "\\" in first) and is_image(first) and not matches(found, table, column):
                return (
                    f"; {name}: {column!r} is a path ({first!r}) that leads to no image: write it as below the data "
                    "set's folder, with slashes"
                )
    return ""


def labels_of(
    table: Table, keys: set[str], rows: pd.DataFrame | None, test: Table | None, given: Given
) -> Labels | list[str]:
    """The column or columns of labels, as said or as found; a list of those between which nothing decides."""
    if not given.label:
        return labels.find(table, keys, rows, test)
    first = table.column(given.label[0])
    return Labels(list(given.label), labels.separator(first) if len(given.label) == 1 else None, "you said so")


def _given_image(ways: list[Match], given: Given) -> list[Match]:
    if given.image is None:
        return ways
    return [way for way in ways if given.image in (way.pattern, way.by_id)]


def ways_of(found: Survey, table: Table, test: TestSet) -> list[Match]:
    """The columns of all but unique cells that lead to images other than the test set's."""
    unique = [column for column in table.rows.columns if table.rows[column].nunique() >= 0.98 * len(table.rows)]
    ways = [match for column in unique for match in matches(found, table, column)]
    return [way for way in ways if len(way.files & test.files) <= 0.1 * len(way.files)]


def preferred(ways: Sequence[Match], table: Table, rows: pd.DataFrame | None) -> list[Match]:
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
        named = LABELLED.search(match.table) is not None
        return (
            "sample" in told.why,
            round(match.coverage, 1),
            bool(TRAIN.search(match.table)),
            len(match.files),
            named,
        )

    ordered = sorted(complete, key=rank, reverse=True)
    if len(ordered) > 1 and rank(ordered[0]) == rank(ordered[1]):
        both = ", ".join(f"{match.table} ({', '.join(told.columns[:3])})" for match, told in ordered[:3])
        raise DataError(f"which table holds the labels: {both}? Say so by --table")
    return ordered[0]


def by_path(found: Survey, test: TestSet, rows: pd.DataFrame | None, given: Given) -> tuple[dict[str, Any], str]:
    """The pattern whose folders or names are labels, and how it was told. Raises DataError where nothing decides."""
    hints = frozenset() if rows is None else frozenset({*rows.columns[1:], *rows.iloc[:, 1].astype(str)})
    if given.image is not None:
        return {"image": given.image}, "you said so"
    ways = folders.by_folder(found, test.files)
    why = "a folder a class"
    if not ways:
        ways, why = folders.by_name(found, test.files, hints), "the file names hold it"
    if not ways:
        why = _repeated(found, test) or _bare(found, test, rows)
        raise DataError(f"no table, no folders and no file names tell the labels{why}; seen: {found.seen()}")
    if len(ways) > 1:
        known = [way for way in ways if hints & set(way.labels)]
        if len(known) != 1:
            shown = " or ".join(f"{way.pattern} ({', '.join(way.labels[:4])})" for way in ways[:3])
            raise DataError(f"which are the training images: {shown}? Say so by --image")
        ways = known
    return {"image": ways[0].pattern}, why


def which_label(table: str, columns: Sequence[str]) -> str:
    """The question to a person."""
    if not columns:
        return f"no column of {table} can be the label: besides ids there is none of several values"
    shown = ", ".join(" ".join(name.split()) for name in columns[:8])
    return (
        f"which column of {table} is the label: {shown}? Say so by --label, e.g. --label {columns[0]!r}, again for "
        "each of several"
    )
