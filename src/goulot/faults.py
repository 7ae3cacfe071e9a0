"""What a competition would refuse in a submission, row by row, told by `sample_submission.csv`."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from goulot.errors import SubmissionError
from goulot.submission import Form, split
from goulot.targets import Target

Row = tuple[int, list[str]]  # its line in the file and its cells


def read(path: Path) -> list[list[str]]:
    """The file's rows as they are, the header first. Raises SubmissionError where it is no text."""
    if not path.is_file():
        raise SubmissionError(f"{path} is not there; dvc repro writes data/submit/submission.csv")
    try:
        return parse(path.read_bytes().decode("utf-8-sig"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SubmissionError(f"{path} cannot be read as CSV: {error}") from error


def parse(text: str) -> list[list[str]]:
    """The rows of a CSV, empty lines left out."""
    return [row for row in csv.reader(io.StringIO(text, newline="")) if row]


def find(rows: list[list[str]], sample: pd.DataFrame, target: Target, form: Form) -> list[str]:
    """A line for each fault, in the file's order; empty where the submission is as the sample wants it."""
    header = list(sample.columns)
    if not rows or rows[0] != header:
        given = rows[0] if rows else []
        mark = next((m for m in ";\t|" if len(given) == 1 and given[0].split(m) == header), None)
        return [
            f"line 1: the columns are {given}, not {header}" + (f"; part them by ',', not {mark!r}" if mark else "")
        ]
    lines: list[Row] = list(enumerate(rows[1:], start=2))
    found = [
        f"line {line}: {len(cells)} cells, not {len(header)}" for line, cells in lines if len(cells) != len(header)
    ]
    whole = [(line, cells) for line, cells in lines if len(cells) == len(header)]
    found += _ids(whole, sample.iloc[:, 0].to_list())
    for line, cells in whole:
        found += [f"line {line} (id {cells[0]!r}): {fault}" for fault in _cells(cells[1:], sample, target, form)]
    return found


def _ids(rows: Sequence[Row], wanted: list[str]) -> Iterator[str]:
    known, seen = set(wanted), dict[str, int]()
    for line, cells in rows:
        if cells[0] not in known:
            yield f"line {line}: id {cells[0]!r} is not in sample_submission.csv"
        elif cells[0] in seen:
            yield f"line {line}: id {cells[0]!r} occurs twice, first in line {seen[cells[0]]}"
        seen.setdefault(cells[0], line)
    yield from (f"id {name!r} of sample_submission.csv is missing" for name in wanted if name not in seen)
    given = [cells[0] for _, cells in rows]
    if given != wanted and sorted(given) == sorted(wanted):
        first = next(number for number, (a, b) in enumerate(zip(given, wanted, strict=True)) if a != b)
        yield f"line {rows[first][0]}: id {given[first]!r} stands where sample_submission.csv has {wanted[first]!r}"


def _cells(cells: list[str], sample: pd.DataFrame, target: Target, form: Form) -> Iterator[str]:
    if form.kind in ("probability", "columns", "number"):
        values = [_number(cell) for cell in cells]
        for column, cell, value in zip(form.columns, cells, values, strict=True):
            if value is None:
                yield f"{column} is {cell!r}, not a finite number"
            elif form.kind != "number" and not 0 <= value <= 1:
                yield f"{column} is {cell}, not a probability between 0 and 1"
        numbers = [value for value in values if value is not None]
        total = math.fsum(numbers)
        if form.kind == "columns" and target.exclusive and len(numbers) == len(cells) and abs(total - 1) > 1e-5:
            yield f"the probabilities sum to {total:.6f}, not 1"
        return
    labels = [cells[0]] if form.kind == "label" else split(cells[0], form.separator, form.known)
    if not "".join(labels) and not form.blank:
        yield f"{form.columns[0]} is empty"
    if len(labels) > form.most:
        yield f"{form.columns[0]} holds {len(labels)} labels, more than {form.most}"
    if len(set(labels)) < len(labels):
        yield f"{form.columns[0]} holds a label twice"
    unknown = [label for label in labels if label and label not in form.known]
    if unknown and form.kind == "label":
        unknown = [label for label in unknown if label not in set(sample[form.columns[0]])]
    yield from (f"{form.columns[0]} is {label!r}, which is no known label" for label in unknown)


def _number(cell: str) -> float | None:
    try:
        value = float(cell) if "_" not in cell else math.nan  # Python alone reads 1_000 as a number
    except ValueError:
        return None
    return value if math.isfinite(value) else None
