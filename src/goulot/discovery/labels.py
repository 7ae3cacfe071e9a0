"""Which columns of a table are its labels, its groups, and what else both tables know of an image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from goulot import labelling, submission, tables
from goulot.tables import JOIN, Table
from goulot.targets import number_set

NAMES = (
    "label", "labels", "target", "targets", "class", "classes", "class_name", "class_id", "category", "category_name",
    "category_id", "categories", "tags", "species", "breed", "diagnosis", "grade", "level", "type",
    "score", "rating", "y",
)  # fmt: skip
GROUPS = re.compile(
    r"(patient|subject|lesion|person|participant|driver|location|sequence|seq|series|session|study|case|animal|"
    r"individual|slide|video|burst|camera|module|group|plot|field|farm|site)([_ -]?(id|no|num|number|name|uid|code))?",
    re.IGNORECASE,
)
# What a column of labels is called among other words, e.g. `Finding Labels`.
WORDS = re.compile(r"(?<![a-z])(label|class|target|diagnosis|categor|species)", re.IGNORECASE)
FEW_ROWS = 10  # of which nothing is concluded from each having a value of its own
SEPARATORS = ("|", ";", ",", " ")


@dataclass(frozen=True)
class Labels:
    """One column, perhaps with a separator in its cells, or several columns; and how they were told."""

    columns: list[str]
    separator: str | None
    why: str


def find(table: Table, used: set[str], sample: pd.DataFrame | None, test: Table | None) -> Labels | list[str]:
    """The labels of a table whose columns `used` are ids and paths; where nothing decides, those that could be."""
    columns = [name for name in table.rows.columns if name and name not in used and _tells_apart(table.rows[name])]
    if sample is None:
        return _by_itself(table, columns, test)
    found = _by_sample(table.rows, columns, sample) or _by_itself(table, columns, test)
    ours = [name for name in columns if test is None or name not in test.rows.columns]
    return _as_sampled(table.rows, ours, sample, found) if isinstance(found, Labels) else found


def _tells_apart(cells: "pd.Series[str]") -> bool:
    """Whether a column can hold labels: it has several values, and is neither unique text nor the row's number."""
    known = cells[~tables.is_blank(cells)]
    if known.nunique() < 2:
        return False
    if len(known) < FEW_ROWS or known.nunique() < len(known):
        return True
    numbers = number_set(set(known))
    return numbers is not None and max(numbers) - min(numbers) != len(numbers) - 1


def _by_itself(table: Table, columns: list[str], test: Table | None) -> Labels | list[str]:
    """By what the table has, whatever a submission is to look like."""
    unknown = [name for name in columns if test is not None and name not in test.rows.columns]
    left = unknown or [name for name in columns if not GROUPS.fullmatch(name)] or columns
    if len(left) == 1:
        return _one(table.rows, left[0], "only the training table has it" if unknown else "nothing else is there")
    named = [name for wanted in NAMES for name in left if name.lower() == wanted]
    if named:
        return _one(table.rows, named[0], "its name says so")
    spoken = [name for name in left if WORDS.search(name)]
    if len(spoken) == 1:
        return _one(table.rows, spoken[0], "its name says so")
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
        return _by_targets(rows, columns, targets)
    if len(targets) == 1:
        shown = _shown(sample)
        fits = [name for name in columns if shown & set(rows[name].str.strip()) and not _numbers_alone(sample)]
        if len(fits) == 1:
            return _one(rows, fits[0], "its values stand in the sample submission")
    return None


def _by_targets(rows: pd.DataFrame, columns: list[str], targets: list[str]) -> Labels | None:
    """By a sample's several targets: a column's values, or parts of them, or the front of columns' names."""
    for name in columns:
        if set(rows[name][~tables.is_blank(rows[name])].str.strip()) <= set(targets):
            return Labels([name], None, "its values are the sample submission's columns")
        for separator in SEPARATORS:
            pieces = {part for cell in rows[name] for part in labelling.parts(cell, separator)}
            if pieces and pieces <= set(targets):
                return Labels([name], separator, "its values are the sample submission's columns")
    tails = {name.removeprefix(targets[0]) for name in columns if name.startswith(targets[0])}
    whole = [tail for tail in sorted(tails) if {target + tail for target in targets} <= set(columns)]
    if len(whole) == 1:
        named = [target + whole[0] for target in targets]
        return Labels(named, None, "the sample submission asks for them by the front of their names")
    return None


def _shown(sample: pd.DataFrame) -> set[str]:
    """The cells of a sample's one target, and the words in them."""
    cells = sample.iloc[:1000, 1].unique()
    return {part for cell in cells for part in (cell.strip(), *cell.split())} - {""}


def _numbers_alone(sample: pd.DataFrame) -> bool:
    return number_set({part for cell in sample.iloc[:1000, 1].unique() for part in cell.split()}) is not None


def _as_sampled(rows: pd.DataFrame, columns: list[str], sample: pd.DataFrame, found: Labels) -> Labels:
    """The labels as the sample's one target writes them: by another column that says the same, or as parts of cells."""
    if len(found.columns) > 1 or sample.shape[1] != 2 or tables.is_blank(sample.iloc[:, 1]).all():
        return found
    own, shown = rows[found.columns[0]], _shown(sample)
    if not shown & _values(own, found.separator):
        for name in columns:
            if _renames(own, rows[name]) and shown & _values(rows[name], found.separator):
                return Labels([name], found.separator, "the sample submission writes it so")
    if found.separator is None and (mark := _separator_of(sample, own)):
        return Labels(found.columns, mark, found.why)
    return found


def _values(cells: "pd.Series[str]", separator_: str | None) -> set[str]:
    return {part for cell in cells.unique() for part in (labelling.parts(cell, separator_) if separator_ else [cell])}


def _renames(one: "pd.Series[str]", other: "pd.Series[str]") -> bool:
    """Whether two columns name the same classes, each in its own way."""
    return one.nunique() == other.nunique() == len(set(zip(one, other, strict=True)))


def _separator_of(sample: pd.DataFrame, cells: "pd.Series[str]") -> str | None:
    """What parts labels in the sample's cells, where they are made of the parts of the table's cells.

    Cells that are made of the table's whole ones are several guesses at one label.
    """
    wholes = set(cells.str.strip())
    for mark in SEPARATORS:
        pieces = {part for cell in wholes for part in labelling.parts(cell, mark)}
        for cell in sample.iloc[:1000, 1].unique():
            asked = set(labelling.parts(cell, mark))
            if len(asked) > 1 and asked <= pieces and not set(submission.split(cell, mark, wholes)) <= wholes:
                return mark
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
        if not several or number_set(set(distinct)) is not None:
            continue
        seen: dict[str, int] = {}
        for cell in distinct:
            for part in set(split[cell]):
                seen[part] = seen.get(part, 0) + 1
        recurring = sum(all(seen[part] > 1 for part in split[cell]) for cell in several)
        varied = len({len(parts) for parts in split.values()}) > 1
        if varied and mark == JOIN:
            return mark
        share = 0.5 if len(seen) < len(distinct) else 0.8
        if recurring >= share * len(several) and (varied or mark == JOIN):
            return mark
    return None


def group(rows: pd.DataFrame, columns: Sequence[str], labels: Labels, test: pd.DataFrame | None = None) -> str | None:
    """A column that names what several images have in common, and that folds can be dealt by.

    Of several the coarsest whose every value in the test set is new, as the folds are to foretell; else the first.
    """
    fits = _groups(rows, columns, labels)
    new = [name for name in fits if test is not None and name in test.columns and not set(test[name]) & set(rows[name])]
    return min(new, key=lambda name: rows[name].nunique()) if new else next(iter(fits), None)


def _groups(rows: pd.DataFrame, columns: Sequence[str], labels: Labels) -> list[str]:
    fits = []
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
        fits.append(name)
    return fits


def further(train: pd.DataFrame, test: pd.DataFrame, used: set[str]) -> list[str]:
    """Columns that both tables have: numbers that differ, or text of few values."""
    few = min(50, len(train) / 2)

    def tells(cells: "pd.Series[str]") -> bool:
        return number_set(set(cells) - {""}) is not None or cells.nunique() <= few

    both = [name for name in train.columns if name in test.columns and name not in used]
    return [name for name in both if train[name].nunique() > 1 and tells(train[name])]


def _is_flag(cells: "pd.Series[str]") -> bool:
    return set(cells.str.strip().str.lower()) <= labelling.TRUE | labelling.FALSE | {"0.0", "1.0"}
