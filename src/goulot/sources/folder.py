"""A folder of the user's: linked, not copied. What is below it is read and never changed."""

import os
import shutil
from pathlib import Path

from goulot.errors import DataError
from goulot.patterns import Files
from goulot.progress import track
from goulot.sources import archive


def link(source: Path, target: Path) -> None:
    """Link every file of a folder into `target` by symbolic links, or copy it where there are none.

    Not by hard links: whoever wrote to, or changed the mode of, a file in `target` would do so to the user's.
    """
    real = source.resolve()
    if target.resolve().is_relative_to(real):
        raise DataError(f"path:{source} holds {target} itself; move the images elsewhere")
    files = Files(real)
    if not files.all:
        raise DataError(f"path:{source} holds no files")
    every = [*files.all, *files.unnameable]
    for file in track(every, total=len(every), unit="files", label="fetch"):
        place = target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(real / file, place)
        except OSError:
            shutil.copyfile(real / file, place)
    if only_archives(real):
        archive.unpack_inside(target)


def only_archives(path: Path) -> bool:
    """Whether a folder's images are still in archives, as Kaggle packs some."""
    files = Files(path)
    return not files.images() and any(archive.is_archive(Path(file)) for file in files.all)
