"""The feature store: what was put in comes out, once, under its name; a changed byte shows."""

import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest

from goulot.store import STALE_S, Store, digest

KEY = {"weights": "abc", "dtype": "float32"}


def rows(*numbers: int) -> tuple[list[str], dict[str, np.ndarray]]:
    """Rows whose features are their number."""
    values = np.array(numbers, dtype=np.float16)[:, None]
    return [f"r{n}" for n in numbers], {"s1.avg": np.repeat(values, 3, axis=1), "head": values}


def read(store: Store, names: list[str], column: str) -> list[float]:
    out = np.full(len(names), np.nan)
    for _, places, values in store.read(names, [column]):
        assert np.isnan(out[places]).all(), "a row was given twice"
        out[places] = values[:, 0]
    return out.tolist()


def test_a_row_comes_back_under_another_name(tmp_path: Path) -> None:
    store = Store(tmp_path, KEY)
    store.add(*rows(1, 2, 3))
    store.add(*rows(4, 5))
    for opened in (store, Store(tmp_path, KEY)):
        assert read(opened, ["r5", "r1", "r4", "r1"], "s1.avg") == [5, 1, 4, 1]
        assert opened.missing(["r1", "r5", "r6"], ["s1.avg", "head"]) == {"s1.avg": {"r6"}, "head": {"r6"}}
        assert opened.missing(["r1"], ["s1.avg", "s2.avg"]) == {"s1.avg": set(), "s2.avg": {"r1"}}


def test_a_row_stored_twice_is_given_twice(tmp_path: Path) -> None:
    store = Store(tmp_path, KEY)
    store.add(*rows(1, 2))
    store.add(*rows(2, 3))
    assert read(store, ["r3", "r2", "r1"], "head") == [3, 2, 1]


def test_features_of_one_key_are_taken_for_those_of_another(tmp_path: Path) -> None:
    Store(tmp_path, KEY).add(*rows(1))
    for name, value in (("weights", "abd"), ("dtype", "bfloat16"), ("batch", 8)):
        assert Store(tmp_path, {**KEY, name: value}).missing(["r1"], ["head"]) == {"head": {"r1"}}


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_byte_is_read_as_a_feature(tmp_path: Path, place: float, caplog: pytest.LogCaptureFixture) -> None:
    Store(tmp_path, KEY).add(*rows(1, 2))
    intact = Store(tmp_path, KEY)
    intact.add(*rows(3))
    shard = next(path for path in intact.folder.glob("*.arrow") if "r1" in str(intact._shards[path]["row"]))
    data = bytearray(shard.read_bytes())
    data[int(len(data) * place)] ^= 1
    shard.unlink()
    shard.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        store = Store(tmp_path, KEY)
    assert shard.name in caplog.text
    assert store.missing(["r1", "r2", "r3"], ["head"]) == {"head": {"r1", "r2"}}
    store.add(*rows(1, 2))
    assert read(Store(tmp_path, KEY), ["r1", "r2", "r3"], "head") == [1, 2, 3]


def test_leftovers_of_a_killed_run_stay_or_those_of_a_living_one_go(tmp_path: Path) -> None:
    folder = Store(tmp_path, KEY).folder
    for name, age in (("old", STALE_S + 60), ("new", 60)):
        (folder / f".{name}.partial").touch()
        os.utime(folder / f".{name}.partial", (time.time() - age,) * 2)
    Store(tmp_path, KEY)
    assert [path.name for path in folder.glob(".*.partial")] == [".new.partial"]


def test_two_views_share_a_name() -> None:
    assert digest("a", (1, 2.0)) == digest("a", (1, 2.0))
    assert len({digest("a", (1, 2)), digest("b", (1, 2)), digest("a", (2, 1)), digest("a", (1, 2, 0))}) == 4
