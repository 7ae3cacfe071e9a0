"""Checkpoints: what a killed run leaves to the next one, outside of every stage's outputs, which DVC empties."""

import shutil
from pathlib import Path
from typing import Any

import torch

from goulot.artifacts import write_bytes


class Checkpoints:
    """States by name, of one key: a digest of all that they depend on, so that a state is only taken up by its like."""

    def __init__(self, root: Path, key: str) -> None:
        self._root, self._folder = root, root / key

    def read(self, name: str) -> dict[str, Any] | None:
        """The state of that name, None where there is none."""
        path = self._path(name)
        return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None

    def write(self, name: str, state: dict[str, Any]) -> None:
        """Keep a state, which appears whole or not at all, in place of an older one."""
        write_bytes(self._path(name), lambda file: torch.save(state, file))

    def clear(self) -> None:
        """Remove all states, those of other keys too."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.pt"
