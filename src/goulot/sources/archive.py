"""Archives: unpacked only if no entry leaves the folder, none is a device, and they do not blow up."""

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from goulot.errors import DataError
from goulot.progress import track

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# Images do not compress, tables do some twenty times: beyond this it is a bomb, unless it is small all the same.
RATIO, SMALL = 200, 256 * 2**20
_PIECE = 2**20


@dataclass(frozen=True)
class _Entry:
    """A file, a folder or a link of an archive; `link` is a link's target, from where the entry lies."""

    name: str
    size: int
    kind: str
    link: str = ""
    hard: bool = False


def is_archive(path: Path) -> bool:
    """Whether a name is an archive's."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, target: Path) -> None:
    """Unpack into a folder. Raises DataError before anything is written if an entry is not to be trusted."""
    try:
        if path.name.lower().endswith(".zip"):
            _unpack_zip(path, target)
        else:
            _unpack_tar(path, target)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} cannot be unpacked: {' '.join(str(error).split()) or type(error).__name__}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be unpacked: {error.strerror or error}") from error


def unpack_inside(folder: Path) -> None:
    """Unpack the archives that lie directly in a folder of ours, and remove them from it.

    `train.zip` becomes the folder `train`, unless all of its entries already lie below a `train` of their own.
    """
    for path in sorted(folder.iterdir()):
        if not (path.is_file() and is_archive(path)):
            continue
        stem = path.name[
            : -len(next(suffix for suffix in sorted(SUFFIXES, key=len) if path.name.lower().endswith(suffix)))
        ]
        inner = folder / f".{stem}.unpacked"
        shutil.rmtree(inner, ignore_errors=True)
        inner.mkdir()
        unpack(path, inner)
        path.unlink()
        _settle(inner, folder, stem)


def _settle(inner: Path, folder: Path, stem: str) -> None:
    """Move what was unpacked to where it belongs; a name that is taken keeps what it has."""
    entries = [entry for entry in inner.iterdir() if entry.name not in ("__MACOSX", ".DS_Store")]
    single_file = len(entries) == 1 and entries[0].is_file()
    named = len(entries) == 1 and entries[0].is_dir() and entries[0].name == stem
    target = folder if single_file or named else folder / stem
    target.mkdir(exist_ok=True)
    for entry in entries:
        if (target / entry.name).exists():
            raise DataError(f"{stem}: {entry.name} is there twice, unpacked and in an archive; remove one of them")
        os.replace(entry, target / entry.name)
    shutil.rmtree(inner)


def _unpack_zip(path: Path, target: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _judge(path, [_zip_entry(archive, info) for info in infos])
        for info in track(infos, total=len(infos), unit="files", label=f"unpack {path.name}"):
            place = target / info.filename
            mode = info.external_attr >> 16
            if info.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(mode):
                _link(place, archive.read(info).decode())
            else:
                with archive.open(info) as source:
                    _write(place, source)


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Entry:
    if info.flag_bits & 1:
        raise zipfile.BadZipFile("it is encrypted; unpack it yourself and give the folder")
    link = stat.S_ISLNK(info.external_attr >> 16)
    if link and info.file_size > 4096:
        raise zipfile.BadZipFile(f"{info.filename!r} is a link of {info.file_size:,} bytes")
    return _Entry(
        info.filename, info.file_size, "link" if link else "file", archive.read(info).decode() if link else ""
    )


def _unpack_tar(path: Path, target: Path) -> None:
    with tarfile.open(path) as archive:
        _judge(path, _tar_entries(archive))
        members = archive.getmembers()
        for member in track(members, total=len(members), unit="files", label=f"unpack {path.name}"):
            place = target / member.name
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.issym():
                _link(place, member.linkname)
            elif member.islnk():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(target / member.linkname, place)
            elif (source := archive.extractfile(member)) is not None:
                with source:
                    _write(place, source)


def _tar_entries(archive: tarfile.TarFile) -> Iterator[_Entry]:
    for member in archive:
        if member.issym() or member.islnk():
            yield _Entry(member.name, 0, "link", member.linkname, hard=member.islnk())
        else:
            yield _Entry(member.name, member.size, "file" if member.isfile() or member.isdir() else "device")


def _judge(path: Path, entries: Iterator[_Entry] | list[_Entry]) -> None:
    """Raise DataError for the first entry that is not to be trusted, as soon as the sizes are beyond all reason."""
    packed, total, links = path.stat().st_size, 0, set()
    for entry in entries:
        _judge_name(path, entry.name)
        if entry.kind == "device":
            raise DataError(f"{path}: {entry.name!r} is neither a file, a folder nor a link")
        name = PurePosixPath(entry.name)
        if any(str(place) in links for place in (name, *name.parents)):
            raise DataError(f"{path}: {entry.name!r} would be written through a link")
        if entry.kind == "link":
            links.add(str(name))
            base = "" if entry.hard else os.path.dirname(entry.name)
            if _leaves(base, entry.link):
                raise DataError(f"{path}: the link {entry.name!r} points outside, to {entry.link!r}")
        total += entry.size
        if total > max(SMALL, RATIO * packed):
            raise DataError(
                f"{path} of {packed:,} bytes would unpack to more than {total:,}; it is no archive of images"
            )


def _judge_name(path: Path, name: str) -> None:
    if not name or "\0" in name or "\\" in name or ":" in name.partition("/")[0] or name.startswith("/"):
        raise DataError(f"{path}: {name!r} is no relative path")
    if ".." in PurePosixPath(name).parts:
        raise DataError(f"{path}: {name!r} leaves the folder that it is unpacked to")


def _leaves(folder: str, link: str) -> bool:
    """Whether a link in a folder points outside; by `..` after a name too, which may be a link that leads elsewhere."""
    down = link.lstrip("./") if not link.startswith("/") else link
    return (
        link.startswith("/") or ".." in PurePosixPath(down).parts
        or os.path.normpath(os.path.join(folder, link)).split(os.sep)[0] == ".."
    )  # fmt: skip


def _link(place: Path, target: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, place)


def _write(place: Path, source: IO[bytes]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        shutil.copyfileobj(source, file, _PIECE)
