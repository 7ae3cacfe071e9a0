"""Stacked features: columns of several backbones and taps side by side, joined on (image_id, view)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from goulot import layout, maps
from goulot.artifacts import read_json, read_table
from goulot.errors import ArtifactError
from goulot.store import Blobs, Store

READ = 4096  # rows at a time, where a sum is all that is wanted
Column = tuple[str, str]  # backbone, column of it, e.g. ("lite0", "s4.avg")


def available(backbones: Sequence[str]) -> pd.DataFrame:
    """Every extracted column with its costs an image: backbone, column, channels, bytes, multiply_adds."""
    rows = [
        {"backbone": backbone, "column": column, **costs}
        for backbone in backbones
        for column, costs in read_json(layout.features(backbone) / "meta.json")["columns"].items()
    ]
    return pd.DataFrame(rows)


class Features:
    """Memory-mapped features of the rows asked for, in their order.

    `rows` has the columns image_id and view. Raises ArtifactError if a backbone lacks one of them.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self._wanted = pd.MultiIndex.from_frame(rows[["image_id", "view"]])
        self._places: dict[str, np.ndarray] = {}

    def read(self, columns: Sequence[Column]) -> np.ndarray:
        """The columns side by side, float32 (rows, total channels)."""
        return np.concatenate([self._column(*column) for column in columns], axis=1, dtype=np.float32)

    def means(self, columns: Sequence[Column]) -> np.ndarray:
        """The columns' means over an image's views, float32 (images, total channels), by the images' first rows."""
        image, _ = pd.factorize(self._wanted.get_level_values(0))
        parts = [self._column(*column) for column in columns]
        counts = np.bincount(image)[:, None]
        sums = np.zeros((len(counts), sum(part.shape[1] for part in parts)), np.float32)
        for start in range(0, len(image), READ):
            some = slice(start, start + READ)
            np.add.at(sums, image[some], np.concatenate([part[some] for part in parts], axis=1, dtype=np.float32))
        return np.asarray(sums / counts, dtype=np.float32)

    def maps(self, backbone: str, column: str) -> "Maps":
        """Whole maps of the rows, decoded when asked for; `column` is a tap's name with `.map`.

        Raises ArtifactError if `extract` did not keep that map, or if the feature store has lost it since.
        """
        meta = read_json(layout.features(backbone) / "meta.json")
        if column not in meta["maps"]:
            raise ArtifactError(
                f"{backbone} has no {column}; it keeps {', '.join(meta['maps']) or 'no map'}: "
                f"add {column.removesuffix('.map')} to extract.backbones.{backbone}.maps"
            )
        about = meta["maps"][column]
        names = read_table(layout.features(backbone) / "rows.parquet")["name"].to_numpy()[self._rows(backbone)]
        store = Store(layout.store(), meta["store"], f"{column}.{about['form']}")
        try:
            blobs = store.locate(names.tolist(), column)
        except ArtifactError as error:
            fix = f"dvc repro -f -s extract@{backbone} computes them anew"
            raise ArtifactError(f"{backbone}: {error}; {fix}") from error
        return Maps(blobs, tuple(about["shape"]), about["form"])

    def _column(self, backbone: str, column: str) -> np.ndarray:
        path = layout.features(backbone) / f"{column}.npy"
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; dvc repro extract@{backbone} writes it")
        return np.asarray(np.load(path, mmap_mode="r")[self._rows(backbone)])

    def _rows(self, backbone: str) -> np.ndarray:
        if backbone not in self._places:
            held = pd.MultiIndex.from_frame(
                read_table(layout.features(backbone) / "rows.parquet")[["image_id", "view"]]
            )
            places = held.get_indexer(self._wanted)
            if (places < 0).any():
                lacking = self._wanted[places < 0][0]
                raise ArtifactError(
                    f"{layout.features(backbone)} lacks image {lacking[0]} view {lacking[1]}; "
                    f"dvc repro extract@{backbone} computes it"
                )
            self._places[backbone] = places
        return self._places[backbone]


class Maps:
    """Whole maps of rows, in their order; only those asked for are in memory."""

    def __init__(self, blobs: Blobs, shape: tuple[int, int, int], form: maps.Form) -> None:
        self.shape = shape
        self._blobs, self._form = blobs, form

    def __len__(self) -> int:
        return len(self._blobs)

    def __getitem__(self, rows: np.ndarray) -> "Maps":
        """Those rows alone, by number or as a mask; nothing is read yet."""
        return Maps(self._blobs.take(rows), self.shape, self._form)

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Those maps, float32 (len(rows), channels, height, width)."""
        return np.stack([maps.decode(self._blobs[int(row)], self.shape, self._form) for row in rows])


def read_choice(path: Path) -> dict[str, list[Column]]:
    """The columns to stack, chosen for each fold ("0", "1", ...) and for all rows ("all")."""
    return {fold: [(b, c) for b, c in columns] for fold, columns in read_json(path).items()}
