"""A competition on Kaggle: its one archive, downloaded by the official package, which goes on where it was cut off."""

import logging
import re
from pathlib import Path

from goulot import kaggle_client
from goulot.errors import DataError
from goulot.sources import archive

log = logging.getLogger("goulot")


def download(competition: str, folder: Path) -> Path:
    """The competition's archive below `folder`; one that is whole and no older than Kaggle's is not brought again.

    Raises DataError with the reason and the fix: rules not accepted, bad credentials, no such competition.
    """
    if not re.fullmatch(r"[\w-]+", competition):
        raise DataError(f"kaggle:{competition} is no competition's name; it is the last part of its page's address")
    folder.mkdir(parents=True, exist_ok=True)
    with kaggle_client.speaking(competition, "the download", DataError):
        api = kaggle_client.client(DataError)
        log.info("downloading %s to %s", competition, folder)
        api.competition_download_files(competition, str(folder), force=False, quiet=True)
    whole = [path for path in sorted(folder.iterdir()) if archive.is_archive(path)]
    if len(whole) != 1:
        there = ", ".join(path.name for path in folder.iterdir()) or "nothing"
        raise DataError(f"Kaggle sent no archive of {competition}; {folder} holds {there}")
    return whole[0]
