"""`goulot fetch`: bring the competition's files to `data/raw/`, as they come from its site."""

import logging
import shutil
from pathlib import Path

from pydantic import Field, field_validator

from goulot import layout, sources
from goulot.errors import ParamsError
from goulot.params import Section

log = logging.getLogger("goulot")


class Params(Section):
    """Where the competition comes from."""

    source: str = Field(description=sources.ALLOWED)
    watch: str | None = Field(
        None, description="what dvc looks at for changes: the folder or archive of a path: source"
    )
    seed: int = Field(0, ge=0, description="a bundled sample's split into train and test")
    limit: int | None = Field(None, ge=100, description="keep that many images of a bundled sample, for a quick look")

    @field_validator("source")
    @classmethod
    def _known_kind(cls, source: str) -> str:
        kind, _, rest = source.partition(":")
        if kind not in sources.KINDS or not rest:
            raise ValueError(f"must be {sources.ALLOWED}")
        return source


def run(params: Params) -> None:
    """Write `data/raw/` anew."""
    _check_watch(params)
    shutil.rmtree(layout.RAW, ignore_errors=True)
    layout.RAW.mkdir(parents=True)
    sources.bring(params.source, layout.RAW, seed=params.seed, limit=params.limit)
    files = [path for path in layout.RAW.rglob("*") if path.is_file()]
    log.info(
        "fetched %s: %s files, %.0f MB",
        params.source,
        f"{len(files):,}",
        sum(path.stat().st_size for path in files) / 1e6,
    )


def _check_watch(params: Params) -> None:
    """A folder that dvc does not look at could change without a word."""
    path = sources.local(params.source)
    if path is None or params.watch is None:
        return
    if Path(params.watch).resolve() != path.resolve():
        raise ParamsError(
            f"params.yaml: fetch.source is {params.source!r}, but fetch.watch is {params.watch!r}, so dvc repro would "
            f"not see that folder change; set fetch.watch: {path.resolve()} (goulot init writes both)"
        )
