"""A look at a data set: its image files, and every table that can be read."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from goulot import tables
from goulot.errors import DataError
from goulot.patterns import Files, is_image
from goulot.tables import Table

DEPTH = 4  # folders down to which tables are looked for
TEST = re.compile(r"(?<![a-z])(test|eval|holdout|unlabell?ed|pred)", re.IGNORECASE)
TRAIN = re.compile(r"(?<![a-z])(train|label|annot|solution|target)", re.IGNORECASE)
LABELLED = re.compile(r"(label|annot|solution|target|truth)", re.IGNORECASE)
ASIDE = re.compile(r"(?<![a-z])(mask|segment|thumb|preview|depth|heatmap|overlay)", re.IGNORECASE)
SPLITS = re.compile(r"(train|test|val|valid|validation|dev|eval|holdout|images?|imgs?|data)", re.IGNORECASE)
SPLIT = re.compile(r"(?<![a-z])(train|test|pred)(?!([a-z]))", re.IGNORECASE)
SAMPLE = re.compile(r"sample.?sub|submission|benchmark|sample_sol", re.IGNORECASE)
# Suffixes that the same picture may come in, the one to be preferred first.
PREFERRED = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")


@dataclass(frozen=True)
class Survey:
    """The files, the tables by their names, and why others could not be read."""

    files: Files
    tables: dict[str, Table]
    unreadable: dict[str, str] = field(default_factory=dict)

    @cached_property
    def images(self) -> list[str]:
        """Every image file."""
        return self.files.images()

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """Image files by their names without the suffix."""
        return _index(self.images, lambda file: like(file.rpartition("/")[2].rpartition(".")[0]))

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Image files by their names."""
        return _index(self.images, lambda file: like(file.rpartition("/")[2]))

    def nearly(self, ids: Iterable[str]) -> str:
        """Why test images are not found by their ids, where the files tell: some lack, or all are named otherwise."""
        keys = sorted(ids)
        there = [key for key in keys if like(key) in self.by_name or like(key) in self.by_stem]
        if there:
            return f"; of {len(keys):,} ids {len(there):,} name an image"
        files = [file for file in self.images if TEST.search(file) or not TRAIN.search(file)]
        bare = {_stem(file).lstrip("0"): file for file in reversed(files)}
        for key in keys:
            stem = key.rpartition(".")[0] if is_image(key) else key
            if (file := bare.get(stem.lstrip("0"))) is not None:
                zeros, suffix = stem != _stem(file), stem != key
                what = " and ".join(["leading zeros"] * zeros + ["suffix"] * suffix)
                return f"; {key} would be {file} but for its {what}: write the ids as the files are named"
        return ""

    @cached_property
    def by_tail(self) -> dict[str, list[str]]:
        """Image files by every end of their paths that has at least one folder in it, with and without the suffix."""
        tails: dict[str, list[str]] = {}
        for file in self.images:
            pieces = file.split("/")
            for start in range(len(pieces) - 1):
                tail = "/".join(pieces[start:])
                tails.setdefault(like(tail), []).append(file)
                tails.setdefault(like(tail.rpartition(".")[0]), []).append(file)
        return tails

    @cached_property
    def under(self) -> dict[str, int]:
        """How many images lie below each folder, at any depth; the root is the empty name."""
        counts: dict[str, int] = {}
        for file in self.images:
            for folder in above(file):
                counts[folder] = counts.get(folder, 0) + 1
        return counts

    def seen(self) -> str:
        """What is there, in one line."""
        folders = pd.Series([file.rpartition("/")[0] or "." for file in self.images], dtype=str).value_counts()
        parts = [f"{count:,} images in {folder}/" for folder, count in folders.head(4).items()]
        parts += [f"and {len(folders) - 4} more folders"] if len(folders) > 4 else []
        parts += [
            f"{name} ({', '.join(_short(list(table.rows.columns)))})" for name, table in list(self.tables.items())[:6]
        ]
        parts += [f"{name} (not read: {reason})" for name, reason in list(self.unreadable.items())[:2]]
        return "; ".join(parts) or "nothing that looks like an image or a table"


def survey(root: Path) -> Survey:
    """Look at a folder. Raises DataError if no image is in it."""
    files = Files(root)
    found, unreadable = {}, {}
    for file in files.all:
        if not tables.is_table(Path(file)) or file.count("/") > DEPTH or file.rpartition("/")[2].startswith("."):
            continue
        try:
            table = tables.read(root, file)
        except DataError as error:
            unreadable[file] = str(error)
            continue
        if not len(table.rows):
            unreadable[file] = "it has a header but no rows"
        elif not (file.endswith(".txt") and table.rows.shape[1] < 2):
            found[file] = table
    made = Survey(files, found, unreadable)
    if not made.images:
        alone = len(found) + len(unreadable) == len(files.all) > 0
        pixels = "; pixels that stand in a table's cells have to be written as image files first" if alone else ""
        raise DataError(f"{root} holds no images; there are {_kinds(files.all) or 'no files at all'}{pixels}")
    return made


def _stem(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]


def like(name: str) -> str:
    """A name by which it is found: an image's suffix may be of other case in a table than on the disk."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{suffix.lower()}" if dot and suffix != suffix.lower() and is_image(name) else name


def above(file: str) -> list[str]:
    """The folders that a file lies in, the nearest first; the root is the empty name."""
    pieces = file.split("/")[:-1]
    return ["/".join(pieces[:depth]) for depth in range(len(pieces), -1, -1)]


def _index(files: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for file in files:
        index.setdefault(key(file), []).append(file)
    return index


def _short(names: Sequence[str]) -> list[str]:
    return [*names[:4], *([f"{len(names) - 4} more"] if len(names) > 4 else [])]


def _kinds(files: Sequence[str]) -> str:
    counts = pd.Series([Path(file).suffix or "no suffix" for file in files], dtype=str).value_counts()
    return ", ".join(f"{count:,} files of {suffix}" for suffix, count in counts.head(5).items())
