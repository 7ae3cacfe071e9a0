"""The scores of a submission by a solution: a CSV with the submission's columns and the truth in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from goulot import decisions, metrics
from goulot.errors import SubmissionError
from goulot.metrics import Metric
from goulot.submission import Form, split
from goulot.targets import Target, rising


@dataclass(frozen=True)
class _Read:
    """What a file says: predictions float (n, names), or only decisions, in the form of the truth."""

    target: Target
    p: np.ndarray | None
    guesses: np.ndarray | None = None


def score(rows: pd.DataFrame, solution: pd.DataFrame, target: Target, form: Form, metric: Metric) -> dict[str, float]:
    """The metric and what else is shown for the task, as far as the form of the submission has it.

    Both tables are text with the id in the first column; what the solution has beyond the submission's columns is not
    looked at. Raises SubmissionError where the solution's ids or cells do not fit.
    """
    lacking = [name for name in rows.columns if name not in solution]
    if lacking:
        raise SubmissionError(f"the solution has no column {lacking[0]!r}; it has {', '.join(solution.columns)}")
    name = rows.columns[0]
    if (twice := solution[name][solution[name].duplicated()]).size:
        raise SubmissionError(f"id {twice.iloc[0]!r} occurs twice in the solution ({twice.size} such rows)")
    both = rows[[name]].merge(solution[list(rows.columns)], on=name, how="left", validate="one_to_one")
    unknown = both[both.isna().any(axis=1)]
    if len(unknown) or len(solution) != len(rows):
        first = repr(unknown[name].iloc[0]) if len(unknown) else f"{len(solution)} rows, not {len(rows)}"
        raise SubmissionError(f"the solution is not for the submission's ids: {first}")
    cells, true = rows[form.columns].to_numpy(dtype=object), both[form.columns].to_numpy(dtype=object)
    if form.kind in ("label", "top") and (empty := np.flatnonzero(true[:, 0] == "")).size:
        raise SubmissionError(
            f"the solution has no label for id {rows[name].iloc[empty[0]]!r} ({empty.size} such rows)"
        )
    full = _wider(target, form, [cells, true])
    if form.kind == "columns":
        full, order = _by_column(target, form)
        cells, true = cells[:, order], true[:, order]
    y, read = _truth(true, full, form), _read(cells, full, form)
    names = dict.fromkeys([metric.name, *metrics.SHOWN[target.task]])
    shown = [metrics.of(name, full) for name in names]
    scores = {m.name: _one(m, y, read) for m in shown if m.decides or read.p is not None}
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def _one(metric: Metric, y: np.ndarray, read: _Read) -> float:
    if metric.decides and read.guesses is not None:
        return metric.score(y, read.guesses)
    assert read.p is not None  # noqa: S101
    return decisions.score(metric, y, read.p, decisions.plain(metric, read.target))


def _wider(target: Target, form: Form, tables: Sequence[np.ndarray]) -> Target:
    """The target with further labels in cells, which have no training images.

    Raises SubmissionError for a grade whose place is not known.
    """
    if form.kind in ("columns", "number", "probability"):
        return target
    apart = [label for table in tables for cell in table[:, 0] for label in _labels(cell, form)]
    return _with(target, form.texts, list(dict.fromkeys([*form.texts, *apart])))


def _with(target: Target, known: list[str], names: list[str]) -> Target:
    """The target with more names than the known ones: grades, and classes that are numbers, by their value."""
    if len(names) == len(known) or target.task not in ("multiclass", "ordinal"):
        return Target(target.task, names)
    if (ordered := rising(names)) is None and target.task == "ordinal":
        raise SubmissionError(f"the grade {names[-1]!r} is none of {', '.join(known[:6])}: its place is not known")
    return Target(target.task, ordered or names)


def _by_column(target: Target, form: Form) -> tuple[Target, list[int]]:
    """The target with the names of further columns, which have no training images, and each name's column."""
    first, name = form.texts[0], target.names[0]
    lead = first.removesuffix(name) if first.endswith(name) else ""
    known = dict(zip(target.names, form.texts, strict=True))
    known |= {column.removeprefix(lead): column for column in form.columns if column not in form.texts}
    full = _with(target, target.names, list(known))
    return full, [form.columns.index(known[name]) for name in full.names]


def _labels(cell: str, form: Form) -> list[str]:
    return [cell] if form.kind == "label" else split(cell, form.separator, form.known)


def _truth(cells: np.ndarray, target: Target, form: Form) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(target.names)}
    if form.kind == "columns":
        values = _numbers(cells)
        return values.argmax(axis=1) if target.exclusive else values
    if form.kind == "number":
        return _numbers(cells)
    if form.kind == "probability":
        if set(cells[:, 0]) <= set(numbers):
            return np.array([numbers[cell] for cell in cells[:, 0]])
        # A number says whether the class is the one whose probability is asked for.
        return np.where(_numbers(cells)[:, 0] > 0.5, 1, 0)
    if target.exclusive:
        return np.array([numbers[cell] if cell in numbers else numbers[_labels(cell, form)[0]] for cell in cells[:, 0]])
    return _flags(cells, target, form)


def _read(cells: np.ndarray, target: Target, form: Form) -> _Read:
    if form.kind in ("columns", "number"):
        return _Read(target, _numbers(cells))
    if form.kind == "probability":
        p = _numbers(cells)
        return _Read(target, np.hstack([1 - p, p]))
    if form.kind == "label":
        return _Read(target, None, np.array([target.names.index(cell) for cell in cells[:, 0]]))
    if form.kind == "list":
        return _Read(target, None, _flags(cells, target, form))
    ranks = np.zeros((len(cells), len(target.names)))
    for row, cell in enumerate(cells[:, 0]):
        for place, label in enumerate(_labels(cell, form), start=1):
            ranks[row, target.names.index(label)] = 1 / place
    return _Read(target, ranks)


def _flags(cells: np.ndarray, target: Target, form: Form) -> np.ndarray:
    flags = np.zeros((len(cells), len(target.names)))
    for row, cell in enumerate(cells[:, 0]):
        flags[row, [target.names.index(label) for label in _labels(cell, form)]] = 1
    return flags


def _numbers(cells: np.ndarray) -> np.ndarray:
    try:
        numbers = cells.astype(float)
    except ValueError as error:
        raise SubmissionError(f"the solution or the submission has a cell that is no number: {error}") from error
    if (wrong := cells[~np.isfinite(numbers)]).size:
        raise SubmissionError(f"the solution or the submission has a cell that is no finite number: {wrong[0]!r}")
    return numbers
