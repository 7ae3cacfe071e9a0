"""Where a competition's images and labels stand: described in `params.yaml`, listed as one row an image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from pydantic import Field, field_validator, model_validator

from goulot import tables
from goulot.errors import DataError
from goulot.params import Section, Text
from goulot.patterns import Files, Pattern

PATTERN = "an image's path below data/raw, with {id} for its id, e.g. train/{id}.jpg; * and **/ stand for any names"


class Images(Section):
    """The images of the test set: those that a table names, or without a table all that fit the pattern."""

    table: str | None = Field(None, description="a CSV, TSV, JSON, JSON lines or Parquet file below data/raw")
    id: str | None = Field(None, description="the table's column of ids")
    image: str = Field(description=PATTERN)
    where: dict[str, Text | list[Text]] = Field(
        {}, description="only the table's rows with this value in that column, e.g. {split: train}"
    )

    @field_validator("image")
    @classmethod
    def _inside(cls, pattern: str) -> str:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise ValueError("must lie below data/raw, e.g. train/{id}.jpg")
        if not Pattern(pattern).names:
            raise ValueError("must hold {id}, e.g. train/{id}.jpg")
        return pattern

    @model_validator(mode="after")
    def _has_an_id(self) -> "Images":
        if (self.table is None) != (self.id is None):
            raise ValueError("`table` and `id` go together: a table needs a column of ids, and only a table has one")
        if self.table is None and self.where:
            raise ValueError("`where` chooses rows of a table; there is none")
        if self.table is None and "id" not in Pattern(self.image).names:
            raise ValueError("without a table `image` must hold {id}, e.g. train/{label}/{id}.jpg")
        return self

    @property
    def pattern(self) -> Pattern:
        """The pattern of `image`."""
        return Pattern(self.image)


class LabelledImages(Images):
    """The training images, and which column, columns or part of the path says what they show."""

    label: str | None = Field(None, description="the column of labels or numbers")
    labels: list[str] | None = Field(None, min_length=1, description="one column of 0 and 1, or of numbers, each")
    separator: str | None = Field(None, min_length=1, description="what parts several labels in one cell")
    group: str | None = Field(None, description="a column whose rows of one value no fold may part, e.g. a patient")

    @model_validator(mode="after")
    def _has_a_label(self) -> "LabelledImages":
        given = [self.label is not None, self.labels is not None, "label" in Pattern(self.image).names]
        if self.table is None and given != [False, False, True]:
            raise ValueError(
                "without a table `image` must hold {label}, e.g. train/{label}/{id}.jpg, and nothing else says it"
            )
        if self.table is not None and given[0] == given[1]:
            raise ValueError("one of `label` (a column) and `labels` (a list of columns) says what an image shows")
        if self.separator is not None and self.labels is not None:
            raise ValueError("`separator` parts the cells of `label`; `labels` are columns of their own")
        if self.table is None and self.group is not None and self.group not in Pattern(self.image).names:
            raise ValueError(
                "without a table `group` must be a name in `image`, e.g. {patient} in {patient}/{label}/{id}.jpg"
            )
        return self

    @property
    def columns(self) -> list[str]:
        """The columns that hold the labels; `label` where the path does."""
        return self.labels or [self.label or "label"]


@dataclass(frozen=True)
class Listing:
    """The rows of one split, their index telling where each stands, e.g. `train.csv line 9`.

    rows: image_id, split, id, file, and group where one is named. cells: the same rows of the table.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame

    def only(self, kept: "pd.Series[bool]") -> "Listing":
        """The rows for which it is true."""
        return Listing(self.rows[kept], self.cells[kept])


def nothing(split: str) -> Listing:
    """The listing of a split without images."""
    rows = pd.DataFrame({"image_id": [], "split": [], "id": [], "file": []}, dtype=object)
    return Listing(rows, pd.DataFrame(index=rows.index))


def listing(files: Files, spec: Images, split: str, *, leave_out: frozenset[str] = frozenset()) -> Listing:
    """List the images of a split; without a table those files in `leave_out` are none of it.

    `image_id` is the id with its split before it, since some competitions number both sets from one.
    Raises DataError naming the table, the column or the row at fault.
    """
    if spec.table is None:
        ids, found, cells, places = _from_files(files, spec, leave_out)
    else:
        ids, found, cells, places = _from_table(files, spec, spec.table)
    frame = pd.DataFrame(
        {"image_id": [f"{split}/{value}" for value in ids], "split": split, "id": ids, "file": found},
        dtype=object,
        index=places,
    )
    if isinstance(spec, LabelledImages) and spec.group is not None:
        if spec.group not in cells:
            raise DataError(f"ingest.{split}.group is {spec.group!r}, a column that {spec.table} lacks")
        frame["group"] = cells[spec.group].to_numpy()
    cells = cells.set_axis(places)
    _refuse_twice(frame, cells, spec)
    order = frame["image_id"].to_numpy().argsort()
    return Listing(frame.iloc[order], cells.iloc[order])


Parts = tuple[list[str], list[str], pd.DataFrame, list[str]]


def _from_files(files: Files, spec: Images, leave_out: frozenset[str]) -> Parts:
    pattern = spec.pattern
    matching = {file: values for file, values in files.matching(pattern).items() if file not in leave_out}
    if not matching:
        raise DataError(f"no image fits {pattern.text!r} below {files.root}; there are {_seen(files)}")
    # Files of two classes may have one name; what the pattern leaves open together names the image.
    whole = "label" in pattern.names
    ids = [values["*"] if whole else values["id"] for values in matching.values()]
    cells = pd.DataFrame(list(matching.values())).drop(columns="*").astype(str)
    return ids, list(matching), cells, list(matching)


def _from_table(files: Files, spec: Images, name: str) -> Parts:
    table = _rows_where(tables.read(files.root, name), spec)
    ids = table.column(spec.id or "")
    values = {column: ids if column == "id" else table.column(column) for column in spec.pattern.names}
    for column in {spec.id: ids, **values}.values():
        blank = table.rows.index[tables.is_blank(column)]
        if len(blank):
            raise DataError(f"{table.place(blank[0])}: {column.name!r} is empty ({len(blank)} such rows)")
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    rows = [{column: value.removeprefix("./") for column, value in row.items()} for row in rows]
    _refuse_outside(table, spec.pattern, rows, files.root)
    places = [table.place(index) for index in table.rows.index]
    named, found = ids.tolist(), files.resolve(spec.pattern, rows)
    # A file's own name may have a blank at its end; what most often has one is the cell.
    padded = [n for n, row in enumerate(rows) if any(v != v.strip() for v in row.values()) and not files.has(found[n])]
    bare = [{column: value.strip() for column, value in rows[n].items()} for n in padded]
    for number, file in zip(padded, files.resolve(spec.pattern, bare) if bare else [], strict=True):
        if files.has(file):
            named[number], found[number] = named[number].strip(), file
    return named, found, table.rows, places


def _rows_where(table: tables.Table, spec: Images) -> tables.Table:
    kept = pd.Series(True, index=table.rows.index)
    for column, wanted in spec.where.items():
        kept &= table.column(column).isin([wanted] if isinstance(wanted, str) else wanted)
    if not kept.any():
        lacks = f"no row where {spec.where}" if len(table.rows) else "a header but no rows"
        raise DataError(f"{table.name} has {lacks}; ingest names the table, and `where` what is taken of it")
    return replace(table, rows=table.rows[kept])


def _refuse_outside(table: tables.Table, pattern: Pattern, rows: list[dict[str, str]], root: Path) -> None:
    for index, row in zip(table.rows.index, rows, strict=True):
        file = pattern.fill(row)
        if Path(file).is_absolute() or ".." in Path(file).parts or "\0" in file:
            raise DataError(f"{table.place(index)}: the image {file!r} lies outside {root}")


def _refuse_twice(frame: pd.DataFrame, cells: pd.DataFrame, spec: Images) -> None:
    again = frame["id"].duplicated().to_numpy().nonzero()[0]
    if not len(again):
        return
    second = int(again[0])
    first = int((frame["id"] == frame["id"].iloc[second]).to_numpy().argmax())
    columns = spec.columns if isinstance(spec, LabelledImages) else []
    said = [f"{n} {cells[n].iloc[first]!r} and {cells[n].iloc[second]!r}" for n in columns
            if n in cells and cells[n].iloc[first] != cells[n].iloc[second]]  # fmt: skip
    with_labels = f" with {said[0]}," if said else ","
    raise DataError(
        f"{frame.index[second]}: id {frame['id'].iloc[second]!r} occurs twice{with_labels} first at "
        f"{frame.index[first]} ({len(again)} such rows); an id is one image: where several belong together, let `id` "
        "be the column of their files and `group` this one"
    )


def unlisted(files: Files, specs: Sequence[Images], used: frozenset[str]) -> list[str]:
    """Image files that fit a pattern of a table, but which no row names."""
    patterns = [spec.pattern for spec in specs if spec.table is not None]
    return [file for file in files.images() if file not in used and any(p.match(file) for p in patterns)]


def _seen(files: Files) -> str:
    folders = pd.Series([file.rpartition("/")[0] or "." for file in files.images()], dtype=str).value_counts()
    return ", ".join(f"{count:,} images in {folder}/" for folder, count in folders.head(4).items()) or "no images"
