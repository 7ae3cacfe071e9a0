"""Further columns of the competition's table as features: numbers, and categories as one column each."""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from goulot import layout
from goulot.artifacts import read_table
from goulot.errors import ArtifactError

MAX_CATEGORIES = 50  # of a column; the rarest of more are taken as one


def read(ids: "pd.Series[str]") -> pd.DataFrame | None:
    """The columns that `ingest` was told to keep, in the order of the images; None where there are none."""
    if not layout.EXTRA.is_file():
        return None
    table = read_table(layout.EXTRA).set_index("image_id")
    missing = ids[~ids.isin(table.index)]
    if len(missing):
        raise ArtifactError(f"{layout.EXTRA} lacks image {missing.iloc[0]}; dvc repro ingest writes it")
    return table.loc[ids.to_list()].reset_index(drop=True) if table.shape[1] else None


def encode(table: pd.DataFrame, image: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The columns of each row's image, float32 (rows, columns), by what the training rows' images hold.

    A missing number is their median, and where they lack some, a column says so. A category that they lack is
    zero throughout; none is a category.
    """
    numbers = [str(name) for name in table if pd.api.types.is_numeric_dtype(table[name])]
    words = [str(name) for name in table if name not in numbers]
    encoder = make_column_transformer(
        (SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), numbers),
        (OneHotEncoder(handle_unknown="ignore", max_categories=MAX_CATEGORIES, sparse_output=False), words),
    )
    table = table.assign(**{name: table[name].astype(object).where(table[name].notna(), "") for name in words})
    encoder.fit(table.iloc[np.unique(image[train])])
    encoded = np.asarray(encoder.transform(table), dtype=np.float32)
    return np.asarray(encoded[image])
