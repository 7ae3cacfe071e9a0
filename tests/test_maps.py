"""Whole maps: what comes back is what the network computed, to the form's own rounding, and only where it is whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from goulot import layout, maps
from goulot.artifacts import read_json, read_table
from goulot.errors import ArtifactError
from goulot.features import Features
from tests.test_extract import computed
from tests.tiny import Workspace

SHAPE = (3, 4, 5)
BATCHES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), *map(st.just, SHAPE)),
    elements=st.floats(-6e4, 6e4, width=32),
    fill=st.just(0),
)


def back(array: np.ndarray, form: maps.Form) -> np.ndarray:
    return np.stack([maps.decode(data, array.shape[1:], form) for data in maps.encode(array, form)])


@settings(max_examples=60, deadline=None)
@given(BATCHES)
def test_a_map_comes_back_further_off_than_its_form_rounds(array: np.ndarray) -> None:
    assert np.array_equal(back(array, "float16"), array.astype(np.float16).astype(np.float32))
    largest = np.abs(array).max(axis=(2, 3), keepdims=True).astype(np.float64)
    assert (np.abs(back(array, "int8") - array) <= largest / 127 * 0.501 + 1e-37).all()
    for form in ("float16", "int8"):
        assert [maps.encode(row[None], form)[0] for row in array] == maps.encode(array, form)


def test_a_map_of_zeros_or_of_next_to_nothing_comes_back_as_something() -> None:
    tiny = np.full((1, 2, 3, 3), 2e-43, dtype=np.float32)
    for form in ("float16", "int8"):
        assert not back(np.zeros((1, 2, 3, 3), dtype=np.float32), form).any()
        assert np.abs(back(tiny, form)).max() <= 2e-43


@pytest.mark.parametrize("form", ["float16", "int8"])
def test_a_map_is_compressed_where_that_does_not_pay_or_plain_where_it_does(form: maps.Form) -> None:
    dense = np.random.default_rng(0).uniform(-1, 1, (1, 8, 16, 16)).astype(np.float32)
    sparse = dense * (np.random.default_rng(1).random(dense.shape) < 0.1)
    plain = 2 * dense.size if form == "float16" else dense.size + 4 * 8
    assert len(maps.encode(dense, form)[0]) <= plain + 1
    assert len(maps.encode(sparse, form)[0]) < plain / 2
    noise = np.random.default_rng(2).integers(0, 2**15, (1, 8, 16, 16), dtype=np.uint16).view(np.float16)
    noise = np.nan_to_num(noise, nan=1.0, posinf=1.0).astype(np.float32)
    if form == "float16":
        assert maps.encode(noise, form)[0][:1] == maps.PLAIN


@pytest.fixture
def mapped(ready: Workspace) -> Workspace:
    """A workspace that keeps two whole maps as well."""
    ready.set("extract.backbones.tiny.maps", ["s2", "input"])
    ready.run("extract tiny")
    return ready


def read(column: str = "s2.map") -> np.ndarray:
    rows = read_table(layout.features("tiny") / "rows.parquet")
    found = Features(rows).maps("tiny", column)
    assert len(found) == len(rows)
    return found.read(np.arange(len(rows)))


def test_a_map_is_another_row_s_or_not_what_its_vectors_were_pooled_from(mapped: Workspace) -> None:
    s2 = read()
    assert list(s2.shape[1:]) == read_json(layout.features("tiny") / "meta.json")["maps"]["s2.map"]["shape"]
    for pooling, pooled in (("avg", s2.mean((2, 3))), ("max", s2.max((2, 3)))):
        kept = np.load(layout.features("tiny") / f"s2.{pooling}.npy").astype(np.float32)
        assert np.abs(pooled - kept).max() <= 2e-3 * np.abs(kept).max()
    some = read_table(layout.features("tiny") / "rows.parquet").iloc[[7, 3]]
    assert np.array_equal(Features(some).maps("tiny", "s2.map").read([1, 0]), s2[[3, 7]])
    pixels = read("input.map")
    assert pixels.shape[1:] == (3, 64, 64)
    assert np.abs(pixels).max() < 4  # normalised
    with pytest.raises(ArtifactError, match=r"tiny has no s3\.map; it keeps input\.map, s2\.map: add s3 to extract"):
        Features(some).maps("tiny", "s3.map")


def test_eight_bits_are_read_as_sixteen_or_computed_for_the_vectors_again(
    mapped: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    before, vectors = read(), sorted(path.name for path in layout.store().rglob("vectors/*.arrow"))
    caplog.set_level("INFO", logger="goulot")
    mapped.set("extract.maps", "int8")
    mapped.run("extract tiny")
    assert computed(caplog.text)[-1:] == [(160, 160)]
    assert sorted(path.name for path in layout.store().rglob("vectors/*.arrow")) == vectors
    parts = {path.name for path in layout.store().rglob("*.map.*")}
    assert parts == {"input.map.float16", "input.map.int8", "s2.map.float16", "s2.map.int8"}
    largest = np.abs(before).max((2, 3), keepdims=True)
    assert (np.abs(read() - before) <= largest / 127 * 0.51 + 1e-3 * largest).all()
    about = read_json(layout.features("tiny") / "meta.json")["maps"]["s2.map"]
    assert (about["form"], about["bytes"] < about["plain_bytes"]) == ("int8", True)


def test_a_flipped_byte_of_a_map_is_read_as_a_feature(mapped: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    before = read()
    (shard,) = layout.store().rglob("s2.map.float16/*.arrow")
    data = shard.read_bytes()
    flip = bytearray(data)
    flip[len(data) // 2] ^= 4
    shard.unlink()
    shard.write_bytes(flip)
    with pytest.raises(ArtifactError, match=r"lacks 160 of 160 rows of s2\.map; dvc repro -f -s extract@tiny"):
        read()
    assert f"{shard} is damaged" in caplog.text
    caplog.set_level("INFO", logger="goulot")
    mapped.run("extract tiny")
    assert computed(caplog.text)[-1:] == [(160, 160)]
    assert np.array_equal(read(), before)
    assert shard.read_bytes() == data


def test_values_beyond_half_precision_are_refused_in_eight_bits_or_kept_where_infinite() -> None:
    from goulot.extraction import Wanted
    from goulot.taps import Tap

    tap = Tap("s1", "map", (2, 3, 3), 0, 0, 0, ())
    wanted = Wanted({}, {"s1.map": tap}, "int8")
    large = torch.full((1, 2, 3, 3), 1e6)
    (data,) = wanted.take({"s1.map": large}, 1, "tiny")["s1.map"]
    assert np.allclose(maps.decode(data, (2, 3, 3), "int8"), 1e6)
    with pytest.raises(ArtifactError, match=r"tiny: s1\.map has values that are not finite"):
        wanted.take({"s1.map": large / 0}, 1, "tiny")
    with pytest.raises(ArtifactError, match="does not fit float16"):
        Wanted({}, {"s1.map": tap}, "float16").take({"s1.map": large}, 1, "tiny")
