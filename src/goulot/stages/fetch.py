"""`goulot fetch`: bring the competition's files to `data/raw/`, as they come from its site."""

import logging
import shutil
from pathlib import Path

from pydantic import Field, field_validator

from goulot import layout, samples
from goulot.errors import DataError
from goulot.params import Section

log = logging.getLogger("goulot")


class Params(Section):
    """Where the competition comes from."""

    source: str = Field(description="sample:<name> for a bundled competition, path:<folder> for one on this machine")
    seed: int = Field(0, ge=0, description="a bundled sample's split into train and test")
    limit: int | None = Field(None, ge=100, description="keep that many images of a bundled sample, for a quick look")

    @field_validator("source")
    @classmethod
    def _known_kind(cls, source: str) -> str:
        kind, _, rest = source.partition(":")
        if kind not in ("sample", "path") or not rest:
            raise ValueError("must be sample:<name> or path:<folder>")
        return source


def run(params: Params) -> None:
    """Write `data/raw/` anew."""
    kind, _, name = params.source.partition(":")
    shutil.rmtree(layout.RAW, ignore_errors=True)
    layout.RAW.mkdir(parents=True)
    if kind == "sample":
        samples.find(name).write(layout.RAW, seed=params.seed, limit=params.limit)
    else:
        _copy(Path(name).expanduser())
    files = [path for path in layout.RAW.rglob("*") if path.is_file()]
    log.info(
        "fetched %s: %s files, %.0f MB",
        params.source,
        f"{len(files):,}",
        sum(path.stat().st_size for path in files) / 1e6,
    )


def _copy(source: Path) -> None:
    if not source.is_dir():
        raise DataError(
            f"fetch.source is path:{source}, which is no folder; give one that holds the competition's files"
        )
    if layout.RAW.resolve().is_relative_to(source.resolve()):
        raise DataError(f"fetch.source is path:{source}, which holds data/raw itself; move the images elsewhere")
    shutil.copytree(source, layout.RAW, dirs_exist_ok=True, copy_function=shutil.copyfile)
