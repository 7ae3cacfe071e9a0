"""A submission in the shape of `sample_submission.csv`, or a reason why it cannot be."""

import logging
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from goulot.decisions import Rule
from goulot.errors import SubmissionError
from goulot.metrics import Metric
from goulot.targets import Target, number_set, numbers_of

log = logging.getLogger("goulot")

Kind = Literal["probability", "label", "columns", "top", "list", "number"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SEPARATORS = (" ", ", ", ",", "; ", ";", "|", "\t")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm")
# The probability of a class that has no training images: it may be right, and a logarithm of 0 may be refused.
UNSEEN = 1e-6


@dataclass(frozen=True)
class Form:
    """What the sample's cells hold.

    texts: how each of the target's names is written in a cell, or is named as a column, `columns` being the sample's.
    """

    kind: Kind
    columns: list[str]
    texts: list[str]
    separator: str = " "
    most: int = 1  # labels in a cell
    blank: bool = False  # whether a cell may hold none
    whole: bool = False  # whether labels are decided, 0 or 1, where they have a column each

    @cached_property
    def known(self) -> frozenset[str]:
        """The texts, to look one up."""
        return frozenset(self.texts)


def read_sample(path: Path) -> pd.DataFrame:
    """The sample submission, all cells as text, the id in its first column."""
    if not path.is_file():
        raise SubmissionError(f"{path} is missing; the submission takes its ids, order and columns from it")
    try:
        sample = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise SubmissionError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from error
    if sample.shape[1] < 2:
        mark = next((f"; they seem to be parted by {m!r}, not by commas" for m in ";\t|" if m in sample.columns[0]), "")
        raise SubmissionError(f"{path} has {sample.shape[1]} column(s); an id and at least one target are needed{mark}")
    return sample


def detect(sample: pd.DataFrame, target: Target, metric: Metric) -> Kind:
    """What the sample's target columns hold, told by their names, their cells and what the metric takes.

    Raises SubmissionError where it fits no form.
    """
    columns = list(sample.columns[1:])
    cells = set(sample[columns[0]])
    if target.task == "regression":
        return "number"
    if _named(columns, target.names):
        return "columns"
    if len(columns) == 1 and metric.name.startswith("map@"):
        return "top"
    if len(columns) == 1 and target.task == "multilabel":
        return "list"
    if len(columns) == 1 and not any(map(str.strip, cells)):  # nothing is said but that there is one
        return "probability" if target.task == "binary" and not metric.decides else "label"
    if len(columns) == 1 and target.task == "binary" and _numeric(cells):
        codes = cells <= set(target.names)
        decided = cells <= {*target.names, "0", "1"} and metric.decides
        return "label" if decided or (codes and len(cells) > 1) else "probability"
    if len(columns) == 1 and cells <= set(target.names):
        return "label"
    if len(columns) == 1 and target.task == "ordinal" and _numeric(cells | set(target.names)):
        return "label"
    if len(columns) == 1 and _separator(cells, target.names):
        return "top"
    raise SubmissionError(
        f"sample_submission.csv has the targets {columns[:5]} with cells such as {sorted(cells)[:3]}, which fit none "
        f"of the {target.task} names {target.names[:5]}; set submit.format to {', '.join(KINDS)}"
    )


def form(sample: pd.DataFrame, target: Target, metric: Metric, kind: Kind) -> Form:
    """The particulars of a kind. Raises SubmissionError where sample and target do not have it."""
    columns, names = list(sample.columns[1:]), target.names
    cells = set(sample[columns[0]])
    if kind == "columns":
        texts = _named(columns, names)
        if not texts or target.task == "regression":
            raise SubmissionError(f"submit.format is columns, but the targets {columns[:5]} are not {names[:5]}")
        return Form(kind, columns, texts, whole=metric.decides and target.task == "multilabel")
    if kind == "number":
        texts = columns if len(columns) == len(names) == 1 else _named(columns, names)
        if target.task != "regression" or sorted(texts) != sorted(columns):
            raise SubmissionError(
                f"submit.format is number, which wants a regression of {columns[:5]}; "
                f"the target is {target.task} of {names[:5]}"
            )
        return Form(kind, columns, texts)
    if len(columns) != 1:
        raise SubmissionError(
            f"submit.format is {kind}, which fills one column; there are {len(columns)}: {columns[:5]}"
        )
    _check_task(kind, target)
    if kind == "probability":
        return Form(kind, columns, names)
    if kind == "label":
        texts = _spelled(names, cells) if target.task in ("binary", "ordinal") else names
        coded = target.task == "binary" and cells <= {"0", "1"} and not cells & set(texts)
        return Form(kind, columns, ["0", "1"] if coded else texts)
    return _many(kind, sample, target, metric)


def _spelled(names: list[str], cells: set[str]) -> list[str]:
    """The names; whole numbers as the cells write them where these are none of the names: 2 or 2.0."""
    numbers = numbers_of(names) if number_set(set(names)) else None
    if numbers is None or cells & set(names) or any(number != int(number) for number in numbers):
        return names
    for tail in ("", ".0"):
        if all(re.fullmatch(rf"-?\d+{re.escape(tail)}", cell) for cell in cells):
            return [f"{int(number)}{tail}" for number in numbers]
    return names


def _many(kind: Kind, sample: pd.DataFrame, target: Target, metric: Metric) -> Form:
    """Several labels in a cell: how many, and what stands between them."""
    columns, names = list(sample.columns[1:]), target.names
    cells = set(sample[columns[0]])
    free = (mark for mark in SEPARATORS if not any(mark in name for name in names))
    separator = _separator(cells, names) or next(free, " ")
    known = frozenset(names)
    most = max(len(split(cell, separator, known)) for cell in cells)
    if kind == "list":
        return Form(kind, columns, names, separator, most=len(names), blank="" in cells)
    wanted = int(metric.name.removeprefix("map@")) if metric.name.startswith("map@") else 1
    return Form(kind, columns, names, separator, most=min(most if most > 1 else wanted, len(names)))


def fill(
    sample: pd.DataFrame, ids: Sequence[str], p: np.ndarray, target: Target, form: Form, rule: Rule
) -> pd.DataFrame:
    """The sample with its targets replaced; `p` are the predictions, float (ids, names).

    Raises SubmissionError where an id is missing, doubled or unknown, or a prediction is not finite.
    """
    p = p[places(sample.iloc[:, 0].to_list(), ids)]
    if not np.isfinite(p).all():
        bad = sample.iloc[np.flatnonzero(~np.isfinite(p).all(axis=1))[0], 0]
        raise SubmissionError(f"the prediction for id {bad!r} is not finite")
    filled, texts = sample.copy(), np.array(form.texts, dtype=object)
    if form.kind in ("columns", "number"):
        values = rule.decide(p).astype(int) if form.whole else p
        filled[form.columns] = _spread(values, target, form)
    elif form.kind == "probability":
        filled[form.columns[0]] = p[:, 1]
    elif form.kind == "label":
        filled[form.columns[0]] = texts[rule.decide(p)]
    else:
        filled[form.columns[0]] = [form.separator.join(texts[labels]) for labels in _taken(p, form, rule)]
    return filled


def _taken(p: np.ndarray, form: Form, rule: Rule) -> list[np.ndarray]:
    """The labels of each cell by falling probability: so many, or those that apply, at least one where none may not."""
    order = list(np.argsort(-p, axis=1, kind="stable")[:, : form.most])
    if form.kind == "top":
        return order
    decided = rule.decide(p) > 0
    if not form.blank and (bare := int((~decided.any(axis=1)).sum())):
        log.warning("%d of %d rows have no label by the rule and got the likeliest one, since no cell of the sample is "
                    "empty; their scores out of fold are of none", bare, len(p))  # fmt: skip
    pairs = zip(order, decided, strict=True)
    return [row[guess[row]] if guess.any() or form.blank else row[:1] for row, guess in pairs]


def places(wanted: Sequence[str], given: Sequence[str]) -> np.ndarray:
    """Where each wanted id stands among the given ones; an image's suffix may be on one side alone.

    Raises SubmissionError where an id is missing, doubled or unknown.
    """
    for name, ids in (("sample_submission.csv", wanted), ("the predictions", given)):
        twice = pd.Series(ids)[pd.Series(ids).duplicated()]
        if len(twice):
            raise SubmissionError(f"id {twice.iloc[0]!r} occurs twice in {name}")
    index = pd.Index(given)
    for one, other in ((wanted, given), ([_stem(i) for i in wanted], given), (wanted, [_stem(i) for i in given])):
        if set(one) == set(other) and len(set(one)) == len(wanted):
            index, wanted = pd.Index(other), one
            break
    missing = [i for i in wanted if i not in index]
    if missing:
        raise SubmissionError(
            f"{len(missing)} ids of sample_submission.csv have no prediction, first {missing[0]!r}; "
            "were their images quarantined? (data/ingest/quarantine.parquet)"
        )
    unknown = index[~index.isin(wanted)]
    if len(unknown):
        raise SubmissionError(
            f"{len(unknown)} predictions are for ids that sample_submission.csv lacks, first {unknown[0]!r}"
        )
    return index.get_indexer(pd.Index(wanted))


def asked(ids: "pd.Series[str]", sample: pd.DataFrame) -> "pd.Series[bool]":
    """Which ids the sample has; an image's suffix may be on one side alone."""
    wanted = {name for cell in sample.iloc[:, 0] for name in (cell, _stem(cell))}
    return ids.isin(wanted) | ids.map(_stem).isin(wanted)


def split(cell: str, separator: str, known: Set[str]) -> list[str]:
    """The labels in a cell; a known label that holds the separator is one label, the longest that fits."""
    words, labels = cell.split(separator) if cell else [], []
    while words:
        fits = (n for n in range(len(words), 0, -1) if separator.join(words[:n]) in known)
        taken = next(fits, 1)
        labels.append(separator.join(words[:taken]))
        words = words[taken:]
    return [label for label in labels if label]


def _separator(cells: set[str], names: list[str]) -> str | None:
    """What stands between labels: cells fall into known ones, else into equally many of which some are known."""
    likely, known = None, frozenset(names)
    for separator in SEPARATORS:
        parts = [split(cell, separator, known) for cell in cells]
        flat = {label for part in parts for label in part}
        sizes = {len(part) for part in parts}
        if max(sizes, default=0) > 1 and flat <= known:
            return separator
        if max(sizes, default=0) > 1 and len(sizes) == 1 and flat & known:
            likely = likely or separator
    return likely


def _named(columns: list[str], names: list[str]) -> list[str]:
    """The column of each name, with or without a prefix or a suffix common to all; empty where one has none."""
    leads = (column.removesuffix(names[0]) for column in columns if column.endswith(names[0]))
    for lead in ("", *leads):
        texts = [lead + name for name in names]
        if set(texts) <= set(columns):
            return texts
    for tail in (names[0].removeprefix(column) for column in columns if names[0].startswith(column)):
        texts = [name.removesuffix(tail) for name in names]
        if all(name.endswith(tail) for name in names) and sorted(texts) == sorted(columns):
            return texts
    return []


def _spread(values: np.ndarray, target: Target, form: Form) -> np.ndarray:
    """Values in the order of the sample's columns; classes without training images get a little each."""
    if form.kind == "columns" and not form.whole:
        values = values.clip(0, 1)
    places = {text: number for number, text in enumerate(form.texts)}
    unseen = [column for column in form.columns if column not in places]
    rest = UNSEEN if target.exclusive else 0
    if unseen and target.exclusive:
        values = values / values.sum(axis=1, keepdims=True) * (1 - rest * len(unseen))
    full = np.full((len(values), 1), rest, dtype=values.dtype)
    return np.hstack([values[:, [places[c]]] if c in places else full for c in form.columns])


def _check_task(kind: Kind, target: Target) -> None:
    fit = {"probability": target.task == "binary", "label": target.exclusive, "list": target.task == "multilabel"}
    if not fit.get(kind, target.task != "regression"):
        raise SubmissionError(
            f"submit.format is {kind}, which a {target.task} target of {len(target.names)} name(s) does not have"
        )


def _stem(name: str) -> str:
    name = name.strip()
    lead, dot, suffix = name.rpartition(".")
    return lead if dot and f".{suffix.lower()}" in SUFFIXES else name


def _numeric(cells: set[str]) -> bool:
    try:
        return all(np.isfinite(float(cell)) for cell in cells)
    except ValueError:
        return False
