"""Which columns of a table are its labels, its groups, and what else both tables know of an image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from goulot import labelling, tables
from goulot.tables import JOIN, Table

NAMES = (
    "label", "labels", "target", "targets", "class", "classes", "class_name", "class_id", "category", "category_name",
    "category_id", "categories", "tags", "species", "breed", "diagnosis", "grade", "level", "type",
    "score", "rating", "y",
)  # fmt: skip
GROUPS = re.compile(
    r"(patient|subject|person|participant|driver|location|sequence|seq|series|session|study|case|animal|individual|"
    r"slide|video|burst|camera|module|group|plot|field|farm|site)([_ -]?(id|no|num|number|name|uid|code))?",
    re.IGNORECASE,
)
SEPARATORS = ("|", ";", ",", " ")


@dataclass(frozen=True)
class Labels:
    """One column, perhaps with a separator in its cells, or several columns; and how they were told."""

    columns: list[str]
    separator: str | None
    why: str


def find(table: Table, used: set[str], sample: pd.DataFrame | None, test: Table | None) -> Labels | list[str]:
    """The labels of a table whose columns `used` are ids and paths; where nothing decides, those that could be."""
    columns = [name for name in table.rows.columns if name not in used and not tables.is_blank(table.rows[name]).all()]
    by_sample = _by_sample(table.rows, columns, sample) if sample is not None else None
    if by_sample:
        return by_sample
    unknown = [name for name in columns if test is not None and name not in test.rows.columns]
    left = unknown or [name for name in columns if not GROUPS.fullmatch(name)] or columns
    if len(left) == 1:
        return _one(table.rows, left[0], "only the training table has it" if unknown else "nothing else is there")
    named = [name for wanted in NAMES for name in left if name.lower() == wanted]
    if named:
        return _one(table.rows, named[0], "its name says so")
    flags = [name for name in left if _is_flag(table.rows[name])]
    if len(flags) > 1 and len(flags) == len(left):
        return Labels(flags, None, "every column holds 0 and 1")
    return left


def _by_sample(rows: pd.DataFrame, columns: list[str], sample: pd.DataFrame) -> Labels | None:
    targets = list(sample.columns[1:])
    if targets and set(targets) <= set(columns):
        if len(targets) == 1:
            return _one(rows, targets[0], "the sample submission asks for it")
        return Labels(targets, None, "the sample submission asks for them")
    if len(targets) > 1:
        for name in columns:
            if set(rows[name].str.strip()) <= set(targets):
                return Labels([name], None, "its values are the sample submission's columns")
            for separator in SEPARATORS:
                pieces = {part for cell in rows[name] for part in labelling.parts(cell, separator)}
                if pieces and pieces <= set(targets):
                    return Labels([name], separator, "its values are the sample submission's columns")
        return None
    if len(targets) == 1:
        shown = {part for cell in sample[targets[0]].unique()[:1000] for part in (cell.strip(), *cell.split())} - {""}
        fits = [name for name in columns if shown & set(rows[name].str.strip()) and not _all_numbers(shown)]
        if len(fits) == 1:
            return _one(rows, fits[0], "its values stand in the sample submission")
    return None


def _one(rows: pd.DataFrame, name: str, why: str) -> Labels:
    return Labels([name], separator(rows[name]), why)


def separator(cells: "pd.Series[str]") -> str | None:
    """What parts several labels in the cells, None where each is one label.

    A list's labels come back in other cells, and cells differ in how many they hold; the words of a name that is
    written in several words (golden retriever) do neither.
    """
    distinct = [cell for cell in dict.fromkeys(cells.str.strip()) if cell]
    for mark in SEPARATORS:
        split = {cell: labelling.parts(cell, mark) for cell in distinct}
        several = [cell for cell in distinct if len(split[cell]) > 1]
        if not several or labelling.number_set(set(distinct)) is not None:
            continue
        seen: dict[str, int] = {}
        for cell in distinct:
            for part in set(split[cell]):
                seen[part] = seen.get(part, 0) + 1
        recurring = sum(all(seen[part] > 1 for part in split[cell]) for cell in several)
        varied = len({len(parts) for parts in split.values()}) > 1
        share = 0.5 if len(seen) < len(distinct) else 0.8
        if recurring >= share * len(several) and (varied or mark == JOIN):
            return mark
    return None


def group(rows: pd.DataFrame, columns: Sequence[str], labels: Labels) -> str | None:
    """A column that names what several images have in common, and that folds can be dealt by."""
    for name in columns:
        cells = rows[name]
        count = cells.nunique()
        if not GROUPS.fullmatch(name) or count < 10 or count == len(rows) or tables.is_blank(cells).any():
            continue
        if len(labels.columns) == 1 and labels.separator is None:
            label = rows[labels.columns[0]]
            few = label.nunique() <= 50 and int(cells.groupby(label).nunique().min()) < 5
            if few:
                continue
        return name
    return None


def further(train: pd.DataFrame, test: pd.DataFrame, used: set[str]) -> list[str]:
    """Columns that both tables have, and that differ from image to image."""
    return [
        name for name in train.columns
        if name in test.columns and name not in used and train[name].nunique() > 1
        and (labelling.number_set(set(train[name]) - {""}) is not None or train[name].nunique() <= 50)
    ]  # fmt: skip


def _is_flag(cells: "pd.Series[str]") -> bool:
    return set(cells.str.strip().str.lower()) <= labelling.TRUE | labelling.FALSE | {"0.0", "1.0"}


def _all_numbers(texts: set[str]) -> bool:
    return labelling.number_set(texts) is not None
