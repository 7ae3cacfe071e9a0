"""Patterns of image paths, e.g. `train/{label}/{id}.jpg`: filled from a table's row, or matched against the files."""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from goulot.errors import DataError

IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "jp2", "j2k", "png", "tif", "tiff", "bmp", "gif", "webp", "avif"),
        *("pgm", "ppm", "pbm", "pnm", "tga"),
    )
)
# Folders that archives and version control leave behind.
LEFT_OUT = frozenset({"__MACOSX", ".git"})
_TOKEN = re.compile(r"\{(?P<name>[^{}:]+)(?P<path>:path)?\}|(?P<deep>\*\*/)|(?P<star>\*)")


class Pattern:
    """A path with `{name}` for a column of the table (or an id or a label), `*` for any name, `**/` for any folders.

    A name does not reach over a `/`, unless it is written `{name:path}`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        tokens = list(_TOKEN.finditer(text))
        self.names = [m["name"] for m in tokens if m["name"]]
        self.wild = any(not m["name"] for m in tokens)
        self._keys = {name: f"g{number}" for number, name in enumerate(dict.fromkeys(self.names))}
        self._tokens = tokens
        self._regex = re.compile(self._expression())

    def _expression(self) -> str:
        """The whole path; the group `span` is what lies between the first and the last token."""
        seen: set[str] = set()
        parts, end = [], 0
        for number, token in enumerate(self._tokens):
            parts.append(re.escape(self.text[end : token.start()]))
            parts.append("(?P<span>" if number == 0 else "")
            parts.append(self._group(token, seen, number))
            end = token.end()
        closing = ")" if self._tokens else ""
        return "".join(parts) + closing + re.escape(self.text[end:])

    def _group(self, token: "re.Match[str]", seen: set[str], number: int) -> str:
        if not token["name"]:
            return "(?:.*/)?" if token["deep"] else "[^/]*"
        key = self._keys[token["name"]]
        if token["name"] in seen:
            return f"(?P={key})"
        seen.add(token["name"])
        after = self._tokens[number + 1] if number + 1 < len(self._tokens) else None
        if token["path"]:
            body = ".+"
        elif after and after["name"] and after.start() == token.end():
            body = r"[^/]*?[^/\d]"  # {label}{id}: cat12 is cat and 12
        elif number and self._tokens[number - 1]["name"] and self._tokens[number - 1].end() == token.start():
            body = r"\d[^/]*"
        else:
            body = "[^/]+"
        return f"(?P<{key}>{body})"

    def match(self, file: str) -> dict[str, str] | None:
        """The names' values in a path, and as `*` what lies between the first and the last of them, or None."""
        found = self._regex.fullmatch(file)
        if found is None:
            return None
        span = found["span"] if self._tokens else file
        return {"*": span, **{name: found[key] for name, key in self._keys.items()}}

    def fill(self, values: Mapping[str, str]) -> str:
        """The path with the names' values in it; wildcards stay."""
        return _TOKEN.sub(lambda m: values[m["name"]] if m["name"] else m[0], self.text)


class Files:
    """The files below a folder, as paths with `/` relative to it; symbolic links are followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        every = sorted(_walk(root))
        self.all = [file for file in every if _is_text(file)]
        self.unnameable = [file for file in every if not _is_text(file)]
        self._known = frozenset(self.all)
        self._composed: dict[str, str] | None = None

    def has(self, file: str) -> bool:
        """Whether there is a file of exactly that name."""
        return file in self._known

    def images(self) -> list[str]:
        """Those whose names are an image's, hidden ones apart."""
        return [file for file in self.all if is_image(file)]

    def find(self, file: str) -> str:
        """The file of that name; where only its Unicode composition or its suffix's case differs, that one."""
        if file in self._known:
            return file
        if self._composed is None:
            self._composed = {}
            for there in self.all:
                key = _composed(there)
                self._composed[key] = there if key not in self._composed else ""
        return self._composed.get(_composed(file)) or file

    def matching(self, pattern: Pattern) -> dict[str, dict[str, str]]:
        """The image files that fit a pattern, with the values of its names."""
        found = {file: pattern.match(file) for file in self.images()}
        return {file: values for file, values in found.items() if values is not None}

    def resolve(self, pattern: Pattern, rows: Iterable[Mapping[str, str]]) -> list[str]:
        """The file of each row. Raises DataError where two fit; one that is not there stays as it was looked for."""
        if not pattern.wild:
            return [self.find(pattern.fill(row)) for row in rows]
        names = list(dict.fromkeys(pattern.names))
        index: dict[tuple[str, ...], list[str]] = {}
        alike: dict[tuple[str, ...], list[str]] = {}
        for file, values in self.matching(pattern).items():
            index.setdefault(tuple(values[name] for name in names), []).append(file)
            alike.setdefault(tuple(_composed(values[name]) for name in names), []).append(file)
        resolved = []
        for row in rows:
            found = index.get(tuple(row[name] for name in names))
            found = found or alike.get(tuple(_composed(row[name]) for name in names), [])
            if len(found) > 1:
                raise DataError(
                    f"{pattern.text} fits both {found[0]} and {found[1]}; an id is one image: make the "
                    "pattern narrower, or give the table a row and an id for each image and name a `group`"
                )
            resolved.append(found[0] if found else pattern.fill(row))
        return resolved


def is_image(file: str) -> bool:
    """Whether a path's suffix is an image's; hidden files are none."""
    name = file.rpartition("/")[2]
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def _is_text(file: str) -> bool:
    """Whether a name is UTF-8; Python keeps other bytes as lone surrogates, which no table can hold."""
    return file.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in file)


def _composed(file: str) -> str:
    stem, suffix = os.path.splitext(file)
    return unicodedata.normalize("NFC", stem) + suffix.lower()


def _walk(root: Path) -> Iterable[str]:
    for folder, folders, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder) + os.sep
        # A link to a folder that it lies in would be walked for ever.
        folders[:] = [
            name for name in folders
            if name not in LEFT_OUT and not here.startswith(os.path.realpath(os.path.join(folder, name)) + os.sep)
        ]  # fmt: skip
        inside = os.path.relpath(folder, root)
        yield from (name if inside == "." else f"{inside}/{name}".replace(os.sep, "/") for name in names)
