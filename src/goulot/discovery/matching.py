"""Which column of a table names image files, and by what pattern: judged by how many of its cells lead to a file."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from goulot.discovery.survey import ASIDE, PREFERRED, TEST, TRAIN, Survey, like
from goulot.errors import DataError
from goulot.tables import Table

ENOUGH = 0.5  # share of a column's cells that must name a file
PROBES = 20  # cells that are looked for inside of file names


@dataclass(frozen=True)
class Match:
    """A column of a table whose cells lead to images: `pattern` has {<column>} in it."""

    table: str
    column: str
    pattern: str
    coverage: float
    files: frozenset[str] = field(repr=False)
    usage: float = 0.0

    @property
    def by_id(self) -> str:
        """The pattern with {id} for the column."""
        return self.pattern.replace(f"{{{self.column}}}", "{id}")

    def rank(self, wanted: "re.Pattern[str]", unwanted: "re.Pattern[str]") -> tuple[float, ...]:
        """What decides between two patterns: coverage, the folder's name, masks last, the folder's use, the suffix."""
        suffix = next((n for n, s in enumerate(PREFERRED) if self.pattern.lower().endswith(s)), len(PREFERRED))
        fits = bool(wanted.search(self.pattern)) - bool(unwanted.search(self.pattern))
        return (round(self.coverage, 2), fits, -bool(ASIDE.search(self.pattern)), round(self.usage, 2), -suffix)


def matches(found: Survey, table: Table, column: str) -> list[Match]:
    """Every pattern by which enough of a column's cells name a file, the best first for each folder."""
    rows = table.rows
    values = [value for value in dict.fromkeys(rows[column]) if value.strip()]
    if not values:
        return []
    kinds = (("stem", found.by_stem), ("name", found.by_name), ("tail", found.by_tail))
    hits = {kind: {v: index[like(_clean(v))] for v in values if like(_clean(v)) in index} for kind, index in kinds}
    kind = max(hits, key=lambda name: len(hits[name]))
    if len(hits[kind]) < ENOUGH * len(values):
        return _inside_names(found, table.name, column, values)
    return [
        made for folder in _folders(hits[kind], len(values), whole=kind == "tail")
        for made in _of_folder(found, table.name, rows, column, hits[kind], folder, len(values))
    ]  # fmt: skip


def best(
    candidates: Sequence[Match], wanted: "re.Pattern[str]" = TRAIN, unwanted: "re.Pattern[str]" = TEST
) -> list[Match]:
    """The candidates of the highest rank, one a pattern: more than one means that nothing decides between them."""
    ranks = {match.pattern: (match.rank(wanted, unwanted), match) for match in candidates}
    top = max((rank for rank, _ in ranks.values()), default=None)
    return [match for rank, match in ranks.values() if rank == top]


def decided(candidates: Sequence[Match], found: Survey) -> Match | None:
    """The only candidate, None where there is none. Raises DataError where there are several."""
    if len(candidates) > 1:
        shown = " or ".join(match.by_id for match in candidates[:4])
        raise DataError(
            f"{candidates[0].table}: {candidates[0].column!r} leads to {shown}; an id is one image: say which by "
            "--image, as the training images are named"
        )
    return candidates[0] if candidates else None


def _clean(value: str) -> str:
    return value.strip().removeprefix("./")


def _folders(hits: dict[str, list[str]], count: int, *, whole: bool) -> list[str]:
    """The deepest folders that each hold enough of the cells' files; `whole` cells have folders of their own."""
    covered: Counter[str] = Counter()
    for value, files in hits.items():
        covered.update({f for file in files for f in _parents(file[: _start(file, value)] if whole else file)})
    enough = {folder for folder, number in covered.items() if number >= ENOUGH * count}
    # A deeper folder stands for its parent, unless the parent has many cells' files that it lacks.
    return [
        folder for folder in sorted(enough)
        if not any(_below(other, folder) and covered[other] >= 0.98 * covered[folder] for other in enough)
        and not any(_below(folder, other) and covered[other] > 1.02 * covered[folder] for other in enough)
    ]  # fmt: skip


def _parents(file: str) -> list[str]:
    pieces = file.split("/")[:-1]
    return ["/".join(pieces[:depth]) for depth in range(len(pieces) + 1)]


def _below(folder: str, other: str) -> bool:
    return folder != other and (other == "" or folder.startswith(other + "/"))


def _of_folder(found: Survey, table: str, rows: pd.DataFrame, column: str, hits: dict[str, list[str]],
               folder: str, count: int) -> Iterable[Match]:  # fmt: skip
    """A match for each suffix that enough of the files have, or one for all suffixes together."""
    prefix = f"{folder}/" if folder else ""
    inside = {value: [file for file in files if file.startswith(prefix)] for value, files in hits.items()}
    inside = {value: files for value, files in inside.items() if files}
    ends = {value: {_end(value, file) for file in files} for value, files in inside.items()}
    counts = Counter(end for found_ends in ends.values() for end in found_ends)
    full: list[str | None] = [end for end, number in counts.items() if number >= 0.98 * len(inside)]
    for end in full or [None]:
        files = {value: [f for f in there if end is None or _end(value, f) == end] for value, there in inside.items()}
        files = {value: there for value, there in files.items() if there}
        middle = _middle(prefix, files, rows, column)
        if middle is None:
            continue
        used = frozenset(file for there in files.values() for file in there)
        pattern = f"{prefix}{middle}{{{column}}}{'.*' if end is None else end}"
        yield Match(table, column, pattern, len(files) / count, used, len(used) / max(1, found.under.get(folder, 1)))


def _end(value: str, file: str) -> str:
    """What stands behind the cell in the file's path: its suffix, or nothing."""
    return "" if like(file).endswith(like(_clean(value))) else file[_start(file, value) + len(_clean(value)) :]


def _start(file: str, value: str) -> int:
    """Where the cell stands in the file's path, in which a suffix may be of other case."""
    return like(file).rfind(like(_clean(value)))


def _middle(prefix: str, files: dict[str, list[str]], rows: pd.DataFrame, column: str) -> str | None:
    """What stands between the folder and the cell: nothing, {a column}/, any folders. None: two files a cell."""
    between = {value: {file[len(prefix) : _start(file, value)] for file in there} for value, there in files.items()}
    if all(parts == {""} for parts in between.values()):
        return ""
    known = rows[rows[column].isin(between)]
    for other in rows.columns.drop(column):
        if all(f"{_clean(cell)}/" in between[value] for value, cell in zip(known[column], known[other], strict=True)):
            return f"{{{other}}}/"
    # A few names that occur twice are a fault of the data; many, and the pattern is not one.
    double = sum(len(there) > 1 for there in files.values())
    return "**/" if double <= 0.02 * len(files) else None


def _inside_names(found: Survey, table: str, column: str, values: list[str]) -> list[Match]:
    """Patterns such as `{id}_green.png` or `img_{id}.jpg`, where a cell is only a part of a file's name."""
    probes = [value for value in values if len(value.strip()) and "/" not in value][:: max(1, len(values) // PROBES)]
    votes: Counter[str] = Counter()
    for value in probes[:PROBES]:
        around = re.compile(rf"(?<![^\W_]){re.escape(value)}(?![^\W_])|(?<=[^\W\d_]){re.escape(value)}(?!\d)")
        shapes = {_shape(file, value, around) for file in found.images if value in file}
        votes.update(shape for shape in shapes if shape)
    likely = [shape for shape, number in sorted(votes.items()) if number >= 0.8 * min(len(probes), PROBES)]
    made = []
    for shape in likely:
        files = {shape.replace("\0", value) for value in values} & frozenset(found.images)
        if len(files) >= ENOUGH * len(values):
            pattern = shape.replace("\0", f"{{{column}}}")
            usage = len(files) / max(1, found.under[shape.rpartition("/")[0]])
            made.append(Match(table, column, pattern, len(files) / len(values), frozenset(files), usage))
    return made


def _shape(file: str, value: str, around: "re.Pattern[str]") -> str | None:
    folder, slash, name = file.rpartition("/")
    return folder + slash + around.sub("\0", name, count=1) if around.search(name) else None
