"""From the cells of the training rows to the task, its names and the manifest's columns of labels."""

import re
from typing import Literal

import numpy as np
import pandas as pd

from goulot import tables
from goulot.errors import DataError
from goulot.targets import Target, Task, number_set, rising

FEW = 12  # grades an ordinal scale may have
# Column names of numbers that name a class rather than measure something.
CLASS_NAMES = re.compile(
    r"(^|[^a-z])(id|class|label|category|species|breed|type|identity|target)s?([^a-z]|$)", re.IGNORECASE
)
# Those that name kinds, which have no order.
KINDS = re.compile(r"(^|[^a-z])(id|class|category|species|breed|identity)(es|s)?([^a-z]|$)", re.IGNORECASE)
TRUE, FALSE = frozenset({"1", "true", "yes", "t", "y"}), frozenset({"0", "false", "no", "f", "n"})


def target(cells: pd.DataFrame, columns: list[str], separator: str | None, task: Task | Literal["auto"],
           sample: pd.DataFrame | None, classes: list[str] | None = None) -> Target:  # fmt: skip
    """The task and its names, from training cells without blanks.

    `columns` are `label` or the `labels`; `sample` is the sample submission, None where there is none; `classes` is the
    order that a person has given. Raises DataError where the cells do not fit the task, or the order the classes.
    """
    found = _unordered(cells, columns, separator, task, sample)
    if found.task == "ordinal" and (names := rising(found.names)) is not None:
        if classes:
            raise DataError("ingest.classes is the order of grades that are words; these are numbers, which have one")
        return Target("ordinal", names)
    if found.task == "ordinal" and not classes and len(columns) == 1:
        raise DataError(
            f"the grades {', '.join(found.names[:6])} are text, whose order is not known; name them in ingest.classes, "
            "from the lowest to the highest"
        )
    return _ordered(found, sample, classes)


def _ordered(found: Target, sample: pd.DataFrame | None, classes: list[str] | None) -> Target:
    """As a person has said; else of two classes the one that the sample's only column is named after is the second."""
    if classes:
        if not found.exclusive:
            raise DataError(f"ingest.classes is the order of classes, and the target is {found.task}; omit it")
        if sorted(classes) != sorted(found.names):
            raise DataError(f"ingest.classes is {classes[:6]}; the labels are {found.names[:6]}, each of them once")
        return Target(found.task, classes)
    namesake = found.task == "binary" and sample is not None and list(sample.columns[1:]) == found.names[:1]
    return Target(found.task, found.names[::-1]) if namesake else found


def _unordered(cells: pd.DataFrame, columns: list[str], separator: str | None, task: Task | Literal["auto"],
               sample: pd.DataFrame | None) -> Target:  # fmt: skip
    if len(columns) > 1:
        return _of_columns(cells, columns, task)
    name = columns[0]
    if separator is not None:
        if task not in ("auto", "multilabel"):
            raise DataError(f"ingest.task is {task}, but a separator makes several labels of a cell: multilabel")
        return _several(
            Target("multilabel", natural({part for cell in cells[name] for part in parts(cell, separator)}))
        )
    values = cells[name].str.strip()
    found = guess(values, name, sample) if task == "auto" else task
    if found == "multilabel":
        raise DataError(f"ingest.task is multilabel, but {name!r} is one column; name a separator, or several labels")
    if found == "regression":
        _numbers(values, name)
        return Target("regression", [name])
    names = natural(set(values))
    if (distinct := number_set(set(names))) is not None and len(distinct) < len(names):
        one = next(i for i in range(len(names)) if float(names[i]) == float(names[i + 1]))
        raise DataError(f"{name!r} has one number in two ways, {names[one]!r} and {names[one + 1]!r}; write it in one")
    if found == "binary" and len(names) != 2:
        raise DataError(f"ingest.task is binary, but {name!r} has {len(names)} values: {', '.join(names[:6])}")
    return _several(Target(found, names))


def columns(frame: pd.DataFrame, names: list[str], separator: str | None, found: Target) -> pd.DataFrame:
    """The manifest's columns: `label` for people, and `y.<name>` float64 where the task is not exclusive."""
    if len(names) == 1 and separator is None:
        single = frame[names[0]].str.strip()
        if found.exclusive:
            return pd.DataFrame({"label": single})
        return pd.DataFrame({"label": single, f"y.{found.names[0]}": _numbers(single, names[0])})
    if separator is not None:
        sets = [parts(cell, separator) for cell in frame[names[0]]]
        y = np.array([[float(name in row) for name in found.names] for row in sets])
    else:
        y = np.column_stack(
            [_flags(frame[n], n) if found.task != "regression" else _numbers(frame[n], n) for n in names]
        )
    if found.exclusive:
        return pd.DataFrame({"label": np.array(names, dtype=object)[y.argmax(1)]}, index=frame.index)
    table = pd.DataFrame(y, columns=[f"y.{name}" for name in found.names], index=frame.index)
    if found.task == "regression":
        text = [", ".join(row) for row in frame[names].to_numpy()]
    else:
        text = [", ".join(name for name, flag in zip(found.names, row, strict=True) if flag) for row in y]
    table.insert(0, "label", text)
    return table


def guess(values: "pd.Series[str]", name: str, sample: pd.DataFrame | None) -> Task:
    """The task of one column, from its values and from what the sample submission holds.

    Text, or two values: classes. Fractions: regression. Whole numbers: classes where the sample has a column each,
    regression where its one column has fractions, ordinal where they are few, consecutive, the sample has whole
    numbers too and the column's name does not speak of kinds; else classes where they are few or the column's name
    says so, and regression where they are many.
    """
    distinct = set(values)
    if len(distinct) == 2:
        return "binary"
    numbers = number_set(distinct)
    if numbers is None:
        return "multiclass"
    if any(value != int(value) for value in numbers):
        return "regression"
    wanted = _cells(sample)
    asked = None if wanted is None else number_set(set(wanted))
    if (sample is not None and sample.shape[1] > 2) or (wanted is not None and asked is None):
        return "multiclass"
    if asked is not None and any(value != int(value) for value in asked):
        return "regression"
    few = len(numbers) <= FEW and max(numbers) - min(numbers) == len(numbers) - 1
    if few:
        return "ordinal" if asked is not None and not KINDS.search(name) else "multiclass"
    return "multiclass" if len(numbers) <= FEW or CLASS_NAMES.search(name) else "regression"


def _cells(sample: pd.DataFrame | None) -> "pd.Series[str] | None":
    """The cells of a sample's one target column; None where there are more, or all of them are blank."""
    if sample is None or sample.shape[1] != 2:
        return None
    cells = sample.iloc[:, 1]
    return None if tables.is_blank(cells).all() else cells


def natural(names: set[str]) -> list[str]:
    """Numbers in the order of their value, text in alphabetical order."""
    numbers = number_set(names)
    return sorted(names, key=lambda text: (float(text), text)) if numbers is not None else sorted(names)


def parts(cell: str, separator: str) -> list[str]:
    """The labels in a cell; an empty one has none."""
    pieces = cell.split() if separator == " " else cell.split(separator)
    return [piece.strip() for piece in pieces if piece.strip()]


def _of_columns(cells: pd.DataFrame, columns: list[str], task: Task | Literal["auto"]) -> Target:
    """0 and 1: classes where each row has exactly one 1, else labels; other numbers: regression."""
    flags = all(set(cells[name].str.strip().str.lower()) <= TRUE | FALSE | {"0.0", "1.0"} for name in columns)
    if task == "regression" or (task == "auto" and not flags):
        for name in columns:
            _numbers(cells[name], name)
        return Target("regression", columns)
    y = np.column_stack([_flags(cells[name], name) for name in columns])
    single = bool((y.sum(1) == 1).all())
    if task == "multilabel" or (task == "auto" and not single):
        return Target("multilabel", columns)
    if not single:
        bad = int(np.flatnonzero(y.sum(1) != 1)[0])
        raise DataError(f"{cells.index[bad]}: {int(y[bad].sum())} of {columns} are 1; ingest.task is {task}: just one")
    return Target(("binary" if len(columns) == 2 else "multiclass") if task == "auto" else task, columns)


def _several(found: Target) -> Target:
    if len(found.names) < 2:
        raise DataError(f"the training images have {len(found.names)} class(es) {found.names}; at least 2 are needed")
    return found


def _numbers(cells: "pd.Series[str]", name: str) -> np.ndarray:
    numbers = pd.to_numeric(cells.str.strip(), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise DataError(
            f"{cells.index[bad[0]]}: {name!r} is {cells.iloc[bad[0]]!r}, which is no number ({len(bad)} such rows)"
        )
    return numbers


def _flags(cells: "pd.Series[str]", name: str) -> np.ndarray:
    text = cells.str.strip().str.lower().str.removesuffix(".0")
    bad = np.flatnonzero(~text.isin(TRUE | FALSE))
    if len(bad):
        raise DataError(
            f"{cells.index[bad[0]]}: {name!r} is {cells.iloc[bad[0]]!r}; allowed are 0 and 1 ({len(bad)} such rows)"
        )
    return text.isin(TRUE).to_numpy(dtype=np.float64)
