"""The feature store: content-addressed, append-only, shared by runs and outside of every stage's outputs.

One folder a key (weights, preprocessing, engine) and part (all pooled vectors, or the maps of one depth); in it,
shards of rows. A row is named by the digest of an image's content and a view's parameters. A shard is an Arrow file
whose name is the hash of its bytes: it appears whole or not at all, and a changed byte shows. Killing a run loses at
most the shard it was computing and the one it was writing. `extract` assembles its vectors from here in the order of
the plan, so that their bytes do not depend on the store's history; maps, which are large, stay here alone and are
read by name.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from goulot.artifacts import digest, sha256, write_bytes, write_json
from goulot.errors import ArtifactError

log = logging.getLogger("goulot")

VECTORS = "vectors"
STALE_S = 86_400.0


class Store:
    """The rows of one key and part."""

    def __init__(self, root: Path, key: Mapping[str, Any], part: str = VECTORS) -> None:
        home = root / digest(key)
        self.folder = home / part
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"cannot write {self.folder}: {error.strerror or error}") from error
        if not (home / "key.json").exists():
            write_json(home / "key.json", key)
        with suppress(OSError):  # in another user's store
            os.utime(home / "key.json")  # so that `goulot clean` knows what is in use
        self._sweep()
        self._shards: dict[Path, pa.Table] = {}
        for path in sorted(self.folder.glob("*.arrow")):
            self._open(path)

    def missing(self, rows: Sequence[str], columns: Sequence[str]) -> dict[str, set[str]]:
        """Of each column the rows that lack it; columns that the same rows lack share one set."""
        held: dict[frozenset[str], set[str]] = {}  # by the columns a shard has, since most shards have the same
        for table in self._shards.values():
            held.setdefault(frozenset(table.column_names), set()).update(table["row"].to_pylist())
        wanted = set(rows)
        lacking: dict[tuple[frozenset[str], ...], set[str]] = {}
        found = {}
        for column in columns:
            having = tuple(has for has in held if column in has)
            if having not in lacking:
                lacking[having] = wanted.difference(*(held[has] for has in having))
            found[column] = lacking[having]
        return found

    def add(self, rows: Sequence[str], columns: Mapping[str, np.ndarray | Sequence[bytes]]) -> None:
        """Append rows: each column is float16 (len(rows), channels), or bytes a row."""
        table = pa.table([pa.array(rows, pa.string()), *map(_array, columns.values())], names=["row", *columns])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        data = memoryview(sink.getvalue())
        path = self.folder / f"{sha256(data)[:32]}.arrow"
        write_bytes(path, lambda file: file.write(data))
        self._open(path)

    def read(self, rows: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield (column, positions in `rows`, float16 values) until each row of each column was given once."""
        for column, table, places, sources in self._found(rows, columns):
            yield column, places, _matrix(table, column)[sources]

    def locate(self, rows: Sequence[str], column: str) -> "Blobs":
        """Random access to the bytes of the rows, in their order. Raises ArtifactError if one is missing."""
        tables: list[pa.ChunkedArray] = []
        shard, index = np.full(len(rows), -1), np.zeros(len(rows), dtype=np.int64)
        for _, table, places, sources in self._found(rows, [column]):
            shard[places], index[places] = len(tables), sources
            tables.append(table[column])
        if (shard < 0).any():
            raise ArtifactError(f"the feature store lacks {(shard < 0).sum()} of {len(rows)} rows of {column}")
        return Blobs(tables, shard, index)

    def _found(
        self, rows: Sequence[str], columns: Sequence[str]
    ) -> Iterator[tuple[str, pa.Table, np.ndarray, np.ndarray]]:
        """Of each shard and column: the positions in `rows` that it fills, and its own rows for them."""
        codes, unique = pd.factorize(np.asarray(rows, dtype=object))
        order = np.argsort(codes, kind="stable")  # the positions of a row stand together
        starts = np.searchsorted(codes[order], np.arange(len(unique) + 1))
        lookup = pd.Index(unique)
        todo = {column: np.ones(len(unique), dtype=bool) for column in columns}
        for table in self._shards.values():
            if not (held := [column for column in columns if column in table.column_names]):
                continue
            code = lookup.get_indexer(pd.Index(table["row"].to_pylist()))
            for column in held:
                fresh = np.flatnonzero((code >= 0) & todo[column][code])
                if not len(fresh):
                    continue
                todo[column][code[fresh]] = False
                counts = starts[code[fresh] + 1] - starts[code[fresh]]
                places = np.concatenate([order[starts[c] : starts[c + 1]] for c in code[fresh]])
                yield column, table, places, np.repeat(fresh, counts)

    def _open(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            if sha256(memoryview(source.read_buffer()))[:32] != path.stem:
                log.warning(
                    "%s is damaged: its bytes are not those that were written; dropped, and extract computes it anew",
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


class Blobs:
    """The bytes of rows, read from the memory-mapped shards when asked for."""

    def __init__(self, columns: list[pa.ChunkedArray], shard: np.ndarray, index: np.ndarray) -> None:
        self._columns, self._shard, self._index = columns, shard, index

    def __len__(self) -> int:
        return len(self._shard)

    def take(self, rows: np.ndarray) -> "Blobs":
        """Those rows alone, by number or as a mask."""
        return Blobs(self._columns, self._shard[rows], self._index[rows])

    def __getitem__(self, row: int) -> memoryview:
        return memoryview(self._columns[self._shard[row]][int(self._index[row])].as_buffer())


def _array(values: np.ndarray | Sequence[bytes]) -> pa.Array:
    if isinstance(values, np.ndarray):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.array(values, pa.large_binary())


def _matrix(table: pa.Table, column: str) -> np.ndarray:
    """A column as float16 (rows, channels), a view of the memory map."""
    chunk = table[column].combine_chunks()
    chunk = chunk.chunk(0) if isinstance(chunk, pa.ChunkedArray) else chunk
    return np.asarray(chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(table), -1))
