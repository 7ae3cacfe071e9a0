"""Tables of any common kind, read as text: CSV and its kin, JSON records, JSON lines, COCO annotations, Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from goulot.errors import DataError
from goulot.patterns import is_image

# What joins the values of a list that a cell of JSON or Parquet holds.
JOIN = "|"
DELIMITERS = ",;\t|"
SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet")
BLANK = frozenset({"", "nan"})
_LARGEST_CELL = 64 * 2**20


@dataclass(frozen=True)
class Table:
    """A table's rows as text; the index tells a row's place in the file, in `unit`s (line, record, row)."""

    name: str
    rows: pd.DataFrame
    unit: str

    def place(self, row: object) -> str:
        """A row's place in words, e.g. `train.csv line 9`."""
        return f"{self.name} {self.unit} {row}"

    def column(self, name: str) -> "pd.Series[str]":
        """A column. Raises DataError that lists the columns there are."""
        if name not in self.rows.columns:
            there = ", ".join(map(repr, self.rows.columns[:20]))
            raise DataError(f"{self.name} has no column {name!r}; it has {there}")
        return self.rows[name]


def read(root: Path, name: str) -> Table:
    """Read a table below `root`. Raises DataError in one line where it is not there or cannot be read."""
    path = root / name
    if not path.is_file():
        there = sorted(p.name for p in path.parent.iterdir() if is_table(p)) if path.parent.is_dir() else []
        raise DataError(f"{path} is not there; the tables found are {', '.join(there) or 'none'}")
    try:
        table = _reader(path)(path.read_bytes(), name)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as {path.suffix[1:] or 'a table'}: {_one_line(error)}") from error
    twice = table.rows.columns[table.rows.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path} has two columns {twice[0]!r}")
    return table


def is_table(path: Path) -> bool:
    """Whether its name says that it is a table."""
    return path.suffix.lower() in SUFFIXES


def is_blank(cells: "pd.Series[str]") -> "pd.Series[bool]":
    """Where a cell holds nothing: empty, blanks, or NaN."""
    return cells.str.strip().str.lower().isin(BLANK)


def _reader(path: Path) -> Callable[[bytes, str], Table]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _read_json
    if suffix in (".jsonl", ".ndjson"):
        return _read_lines
    return _read_parquet if suffix == ".parquet" else _read_text


def _decode(data: bytes) -> str:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} holds a byte that is not UTF-8 (0x{data[error.start]:02x})") from error


def _read_text(data: bytes, name: str) -> Table:
    """Delimited text with a header; every row must have as many cells as it. Blank lines are passed over.

    A first row that names an image is no header: the columns are then column1, column2 and so on.
    """
    text = _decode(data)
    csv.field_size_limit(_LARGEST_CELL)
    try:
        # newline="" keeps a line break inside quotes as it is; csv itself ends rows at \n, \r and \r\n.
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text), skipinitialspace=True, strict=True)
        header, cells, lines, last = None, [], [], 0
        for row in rows:
            line, last = last + 1, rows.line_num
            if not row:
                continue
            if header is None:
                header = [cell.strip() for cell in row]
                if not _is_headless(header):
                    continue
                header = [f"column{number}" for number in range(1, len(row) + 1)]
            if len(row) != len(header):
                raise ValueError(f"line {line} has {len(row)} cells, the header {len(header)}")
            cells.append(row)
            lines.append(line)
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num}: {error}") from error
    if header is None:
        raise ValueError("it is empty")
    return Table(name, pd.DataFrame(cells, columns=header, index=lines, dtype=str), "line")


def delimiter(text: str) -> str:
    """The delimiter of the first line: the first of , ; tab | that occurs there most often outside of quotes.

    A blank where there is none of them and the line starts with an image's name, as in lists of files and classes.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    bare = "".join(header.split('"')[::2])
    if not any(mark in bare for mark in DELIMITERS) and _is_headless(header.split()):
        return " "
    return max(DELIMITERS, key=bare.count)


def _is_headless(header: Sequence[str]) -> bool:
    return any(is_image(cell) for cell in header)


def _read_json(data: bytes, name: str) -> Table:
    document = json.loads(_decode(data))
    return _table(name, records(document))


def _read_lines(data: bytes, name: str) -> Table:
    lines = [(number, line) for number, line in enumerate(_decode(data).split("\n"), start=1) if line.strip()]
    found = []
    for number, line in lines:
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"line {number}: {_one_line(error)}") from error
    return _table(name, found, [number for number, _ in lines], "line")


def _read_parquet(data: bytes, name: str) -> Table:
    frame = pd.read_parquet(io.BytesIO(data))
    return _table(name, [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")])


def records(document: Any) -> list[Mapping[str, Any]]:
    """The records of a JSON document: COCO annotations, a list of records, records or labels by id, or columns.

    Raises ValueError where it is none of these.
    """
    if isinstance(document, list):
        return document
    if not isinstance(document, dict) or not document:
        raise ValueError("it holds neither records nor annotations")
    if isinstance(document.get("images"), list):
        return _coco(document)
    lists = [value for value in document.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) == 1:
        return list(lists[0])
    if all(isinstance(value, dict) for value in document.values()):
        return _by_id_or_column(document)
    if any(isinstance(value, dict) for value in document.values()):
        raise ValueError("its values are of several kinds")
    lengths = {len(value) if isinstance(value, list) else -1 for value in document.values()}
    if len(lengths) == 1 and -1 not in lengths and lengths.pop() > max(len(document), 1):
        return [dict(zip(document, row, strict=True)) for row in zip(*document.values(), strict=True)]
    return [{"id": key, "label": value} for key, value in document.items()]


def _by_id_or_column(document: dict[str, dict[str, Any]]) -> list[Mapping[str, Any]]:
    """{id: {column: value}}, or as pandas writes it {column: {row number: value}}."""
    inner = [list(value) for value in document.values()]
    if inner[0] and all(keys == [str(n) for n in range(len(inner[0]))] for keys in inner):
        return [{column: document[column][key] for column in document} for key in inner[0]]
    name = "id" if not any("id" in value for value in document.values()) else "key"
    return [{name: key, **value} for key, value in document.items()]


def _coco(document: dict[str, Any]) -> list[Mapping[str, Any]]:
    """One record an image: its own fields, and of its annotations' categories the names and the numbers.

    They are `category` and `category_id`, in the order of the names: some competitions score by the one, some by the
    other.
    """
    try:
        names = {entry["id"]: str(entry["name"]) for entry in document.get("categories") or []}
        found: dict[Any, dict[str, str]] = {}
        for mark in document.get("annotations") or []:
            category = mark["category_id"]
            found.setdefault(mark["image_id"], {})[names.get(category, str(category))] = str(category)
        images = document["images"]
        known = {image["id"] for image in images}
    except (KeyError, TypeError) as error:
        raise ValueError(f"its COCO annotations lack {error}") from error
    if strangers := [image for image in found if image not in known]:
        raise ValueError(f"{len(strangers)} annotated images are not among its images, first {strangers[0]!r}")
    if not found:
        return list(images)
    marks = [dict(sorted(found.get(image["id"], {}).items())) for image in images]
    fields = ("category", "category_id") if names else ("category",)
    return [
        {**image, **dict(zip(fields, (list(mark), list(mark.values())), strict=False))}
        for image, mark in zip(images, marks, strict=True)
    ]


def _table(name: str, found: list[Any], places: Iterable[int] | None = None, unit: str = "record") -> Table:
    if not found:
        raise ValueError("it holds no records")
    for number, record in enumerate(found, start=1):
        if not isinstance(record, Mapping):
            raise ValueError(f"record {number} is {type(record).__name__}, not an object")
    columns = list(dict.fromkeys(str(key) for record in found for key in record))
    rows = [[_cell(record.get(column)) for column in columns] for record in found]
    index = list(places) if places is not None else range(1, len(rows) + 1)
    return Table(name, pd.DataFrame(rows, columns=columns, index=index, dtype=str), unit)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return JOIN.join(map(_cell, value))
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
