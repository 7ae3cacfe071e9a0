"""The feature store: content-addressed, append-only, shared by runs and outside of every stage's outputs.

One folder a key (weights, preprocessing, precision); in it, shards of rows. A row is named by the digest of an
image's content and a view's parameters. A shard is an Arrow file whose name is the hash of its bytes: it appears
whole or not at all, and a changed byte shows. Killing a run loses at most the shard it was computing. `extract`
assembles its output from here in the order of the plan, so that its bytes do not depend on the store's history.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from goulot.artifacts import sha256, write_bytes, write_json

log = logging.getLogger("goulot")

STALE_S = 86_400.0


def digest(*parts: object) -> str:
    """A 128-bit name for a value that JSON can hold, 32 hex characters."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class Store:
    """The rows of one key."""

    def __init__(self, root: Path, key: Mapping[str, Any]) -> None:
        self.folder = root / digest(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "key.json").exists():
            write_json(self.folder / "key.json", key)
        os.utime(self.folder / "key.json")  # so that `goulot clean` knows what is in use
        self._sweep()
        self._shards: dict[Path, pa.Table] = {}
        for path in sorted(self.folder.glob("*.arrow")):
            self._open(path)

    def missing(self, rows: Sequence[str], columns: Sequence[str]) -> set[str]:
        """The rows that lack at least one of the columns."""
        held: dict[frozenset[str], set[str]] = {}  # by the columns a shard has, since most shards have the same
        for table in self._shards.values():
            held.setdefault(frozenset(table.column_names), set()).update(table["row"].to_pylist())
        lacking: set[str] = set()
        for column in columns:
            lacking.update(set(rows).difference(*(names for has, names in held.items() if column in has)))
        return lacking

    def add(self, rows: Sequence[str], columns: Mapping[str, np.ndarray]) -> None:
        """Append rows: each column is float16 (len(rows), channels)."""
        arrays = [pa.array(rows, pa.string())]
        arrays += [pa.FixedSizeListArray.from_arrays(pa.array(v.reshape(-1)), v.shape[1]) for v in columns.values()]
        table = pa.table(arrays, names=["row", *columns])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        data = memoryview(sink.getvalue())
        path = self.folder / f"{sha256(data)[:32]}.arrow"
        write_bytes(path, lambda file: file.write(data))
        self._open(path)

    def read(self, rows: Sequence[str], column: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions in `rows`, float16 values) until each row of the column was given once."""
        places: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(row, []).append(place)
        for table in self._shards.values():
            if column not in table.column_names:
                continue
            found = [(i, places.pop(row)) for i, row in enumerate(table["row"].to_pylist()) if row in places]
            if found:
                values = _matrix(table, column)
                sources = np.repeat([i for i, _ in found], [len(p) for _, p in found])
                yield np.concatenate([p for _, p in found]), values[sources]

    def _open(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            if sha256(memoryview(source.read_buffer()))[:32] != path.stem:
                log.warning(
                    "%s is damaged: its bytes are not those that were written; it is dropped and computed anew",
                    path,
                )
                path.unlink()
                return
        self._shards[path] = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def _sweep(self) -> None:
        """Remove what a killed run left half written, unless another run may still be writing it."""
        for partial in self.folder.glob(".*.partial"):
            if time.time() - partial.stat().st_mtime > STALE_S:
                partial.unlink(missing_ok=True)


def _matrix(table: pa.Table, column: str) -> np.ndarray:
    """A column as float16 (rows, channels), a view of the memory map."""
    chunk = table[column].combine_chunks()
    chunk = chunk.chunk(0) if isinstance(chunk, pa.ChunkedArray) else chunk
    return np.asarray(chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(table), -1))
