"""Where a competition's files come from: a bundled sample, Kaggle, or a folder or archive of the user's."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goulot import layout, samples
from goulot.errors import DataError, ParamsError
from goulot.sources import archive, folder, kaggle

KINDS = ("sample", "kaggle", "path")
ALLOWED = "sample:<name>, kaggle:<competition> or path:<folder or archive>"


def parse(source: str) -> tuple[str, str]:
    """The kind of a source and what follows the colon. Raises ParamsError where it is none."""
    kind, _, name = source.partition(":")
    if kind not in KINDS or not name.strip():
        raise ParamsError(f"the source is {source!r}; allowed are {ALLOWED}")
    return kind, name.strip()


def local(source: str) -> Path | None:
    """The folder or archive on this machine whose changes matter, None where the source is none."""
    kind, name = parse(source)
    return Path(name).expanduser() if kind == "path" else None


def bring(source: str, target: Path, *, seed: int = 0, limit: int | None = None) -> None:
    """Fill an empty folder with the competition's files; the user's own are linked and never changed.

    Raises DataError where there is nothing to bring, or an archive is not to be trusted.
    """
    kind, name = parse(source)
    if kind == "sample":
        samples.find(name).write(target, seed=seed, limit=limit)
        return
    if kind == "kaggle":
        archive.unpack(kaggle.download(name, layout.downloads(name)), target)
        archive.unpack_inside(target)
        return
    path = Path(name).expanduser()
    if path.is_dir():
        folder.link(path, target)
    elif archive.is_archive(path) and path.is_file():
        archive.unpack(path, target)
        archive.unpack_inside(target)
    else:
        what = "is not there" if not path.exists() else f"is neither a folder nor one of {', '.join(archive.SUFFIXES)}"
        raise DataError(f"{source} {what}; give path:<folder or archive> that holds the competition's files")


@contextmanager
def at_hand(source: str) -> Iterator[Path]:
    """A folder with the source's files for as long as the block runs; a folder of the user's is looked at in place."""
    path = local(source)
    if path is not None and path.is_dir() and not folder.only_archives(path):
        yield path
        return
    layout.STATE.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="look-", dir=layout.STATE))
    try:
        bring(source, scratch)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
