"""The competition's own tables: which images there are and what their labels say."""

from pathlib import Path

import pandas as pd
from pydantic import Field, field_validator

from goulot.errors import DataError
from goulot.params import Section


class ImageTable(Section):
    """A CSV with one row an image."""

    table: str = Field(description="the CSV's name below data/raw")
    id: str = Field(description="the column of ids")
    image: str = Field(description="an image's path below data/raw, with {id} for its id, e.g. train/{id}.jpg")

    @field_validator("image")
    @classmethod
    def _has_id(cls, pattern: str) -> str:
        if "{id}" not in pattern:
            raise ValueError("must hold {id}, e.g. train/{id}.jpg")
        return pattern


class LabelledTable(ImageTable):
    """A CSV with one row an image and its label."""

    label: str = Field(description="the column of labels")


def read(root: Path, train: LabelledTable, test: ImageTable) -> pd.DataFrame:
    """All images that the tables name: image_id, split, id, file, label (None in the test set), sorted by image_id.

    `image_id` is the id with its split before it, since some competitions number both sets from one.
    Raises DataError naming the table, the column or the row at fault.
    """
    parts = []
    for split, spec in (("train", train), ("test", test)):
        label = spec.label if isinstance(spec, LabelledTable) else None
        rows = _columns(root / spec.table, [spec.id, *([label] if label else [])])
        ids = rows[spec.id]
        _refuse_blank(rows, spec.table)
        _refuse_twice(ids, spec.table)
        files = [spec.image.replace("{id}", value) for value in ids]
        _refuse_outside(root, files, spec.table)
        parts.append(pd.DataFrame({
            "image_id": split + "/" + ids, "split": split, "id": ids, "file": files,
            "label": rows[label] if label else None,
        }))  # fmt: skip
    return pd.concat(parts).sort_values("image_id", ignore_index=True)


def classes(manifest: pd.DataFrame) -> list[str]:
    """The training labels, numbers in the order of their value and text in alphabetical order."""
    labels = manifest.loc[manifest.split == "train", "label"].unique().tolist()
    if len(labels) < 2:
        raise DataError(f"the training images have {len(labels)} class(es) {labels}; at least 2 are needed")
    try:
        return sorted(labels, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(labels)


def _columns(path: Path, names: list[str]) -> pd.DataFrame:
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.csv"))) if path.parent.is_dir() else ""
        raise DataError(f"{path} is not there; the tables found are {there or 'none'}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from error
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(repr, table.columns))}")
    return table[names]


def _refuse_blank(rows: pd.DataFrame, table: str) -> None:
    for name in rows.columns:
        blank = rows.index[rows[name].str.strip() == ""]
        if len(blank):
            raise DataError(f"{table} line {blank[0] + 2}: {name!r} is empty ({len(blank)} such rows)")


def _refuse_twice(ids: "pd.Series[str]", table: str) -> None:
    twice = ids[ids.duplicated()]
    if len(twice):
        raise DataError(
            f"{table} line {twice.index[0] + 2}: id {twice.iloc[0]!r} occurs twice ({len(twice)} such rows)"
        )


def _refuse_outside(root: Path, files: list[str], table: str) -> None:
    for line, file in enumerate(files, start=2):
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise DataError(f"{table} line {line}: the image {file!r} lies outside {root}")
