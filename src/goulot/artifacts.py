"""Files that appear whole or not at all, and tables that say what they lack."""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np
import pandas as pd

from goulot.errors import ArtifactError

log = logging.getLogger("goulot")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it takes the final name only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write through a binary file object, flushed to the disk before it takes its name."""
    with atomic(path) as partial, partial.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def blank_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.memmap:
    """A .npy file of zeros, mapped into memory for writing. Raises OSError where the disk is full.

    NumPy's own such file takes its room only as it is written, which on a full disk ends the process (SIGBUS).
    """
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        left = math.prod(shape) * np.dtype(dtype).itemsize
        while left:
            left -= file.write(bytes(min(left, 2**20)))
    return np.lib.format.open_memmap(path, "r+")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    write_bytes(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys; NaN is refused since other readers would not take it."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, or as CSV where the name says so, without the index."""
    if path.suffix == ".csv":
        write_bytes(path, lambda file: table.to_csv(file, index=False, lineterminator="\n"))
    else:
        write_bytes(path, lambda file: table.to_parquet(file, index=False, compression="zstd"))


def read_json(path: Path) -> Any:
    """Read JSON. Raises ArtifactError naming the stage to run if the file is not there."""
    return json.loads(_existing(path).read_text(encoding="utf-8"))


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table. Raises ArtifactError naming the stage to run if the file is not there."""
    return pd.read_parquet(_existing(path))


def sweep(parent: Path, members: Collection[str]) -> None:
    """Remove the folders of members that a family no longer has, so that what depends on the family sees no ghost.

    DVC keeps such an output in its cache and would restore it together with the stage.
    """
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if folder.is_dir() and folder.name not in members:
            log.info("%s is no longer in params.yaml; its folder goes", folder)
            shutil.rmtree(folder)


def digest(*parts: object) -> str:
    """A 128-bit name for a value that JSON can hold, 32 hex characters."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def sha256(data: bytes | memoryview) -> str:
    """Hex digest of a buffer."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _existing(path: Path) -> Path:
    if not path.is_file():
        stage = path.parts[1] if len(path.parts) > 2 else path.stem
        raise ArtifactError(f"{path} is missing; `dvc repro` runs the stage {stage!r} that writes it")
    return path
