"""Labels that stand in the paths: a folder a class, or a part of each file's name."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from goulot.discovery.survey import ASIDE, SPLIT, SPLITS, TEST, TRAIN, Survey, above
from goulot.patterns import Pattern

# The parts of a name as {label} and {id} may stand in it; the first that tells classes apart is taken.
NAMES = ("{label}.{id}", "{label}_{id}", "{label}-{id}", "{label} ({id})", "{label} {id}", "{label}{id}",
         "{id}_{label}", "{id}-{label}", "{id}.{label}", "{id} {label}")  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """A pattern with {label} and {id}, and the labels that it finds."""

    pattern: str
    labels: tuple[str, ...]


def by_folder(found: Survey, test: frozenset[str]) -> list[Labelled]:
    """Folders whose folders are classes; the one named for training alone, where there is one."""
    files = [file for file in found.images if file not in test and not TEST.search(file.rpartition("/")[0])]
    parents: dict[str, Counter[str]] = {}
    for file in files:
        for folder in above(file)[1:]:
            rest = file[len(folder) + 1 :] if folder else file
            parents.setdefault(folder, Counter())[rest.partition("/")[0]] += 1
    direct = {file.rpartition("/")[0] for file in files}
    likely = {
        folder: {c for c in children if not ASIDE.search(c)} for folder, children in parents.items()
        if folder not in direct and not _are_splits(children)
    }  # fmt: skip
    likely = {folder: children for folder, children in likely.items() if len(children) > 1}
    top = [f for f in likely if not any(parent in likely and parent != f for parent in above(f"{f}/x"))]
    named = [folder for folder in top if TRAIN.search(folder)]
    return [_folder_pattern(folder, tuple(sorted(likely[folder])), files) for folder in named or top]


def _are_splits(children: Counter[str]) -> bool:
    """Whether folders are parts of a data set, by where most images lie: a class may be called `train` as well."""
    splits = sum(count for child, count in children.items() if SPLITS.fullmatch(child) or SPLIT.search(child))
    return splits >= 0.5 * children.total()


def _folder_pattern(folder: str, labels: tuple[str, ...], files: Sequence[str]) -> Labelled:
    prefix = f"{folder}/" if folder else ""
    inside = [file for file in files if file.startswith(prefix)]
    deep = any(file[len(prefix) :].count("/") > 1 for file in inside)
    return Labelled(f"{prefix}{{label}}/{'**/' if deep else ''}{{id}}{suffix(inside)}", labels)


def by_name(found: Survey, test: frozenset[str], hints: frozenset[str]) -> list[Labelled]:
    """Folders of images whose names hold a label: few labels, several images each. `hints` are labels to expect."""
    files = [file for file in found.images if file not in test and not TEST.search(file.rpartition("/")[0])]
    folders = Counter(file.rpartition("/")[0] for file in files if not ASIDE.search(file.rpartition("/")[0]))
    named = [folder for folder in folders if TRAIN.search(folder)]
    made = [_name_pattern(folder, files, hints) for folder in named or folders]
    return [labelled for labelled in made if labelled is not None]


def _name_pattern(folder: str, files: Sequence[str], hints: frozenset[str]) -> Labelled | None:
    inside = [file for file in files if file.rpartition("/")[0] == folder]
    prefix = f"{folder}/" if folder else ""
    fits = []
    for form in NAMES:
        pattern = Pattern(f"{prefix}{form}{suffix(inside)}")
        found = [pattern.match(file) for file in inside]
        values = [match for match in found if match is not None]
        if len(values) < 0.98 * len(inside):
            continue
        counts = Counter(match["label"] for match in values)
        numbered = sum(bool(re.search(r"\d", match["id"])) for match in values) >= 0.9 * len(values)
        if 2 <= len(counts) <= len(values) / 3 and numbered:
            known = len(hints & set(counts))
            fits.append((known, -sum(n < 2 for n in counts.values()), Labelled(pattern.text, tuple(sorted(counts)))))
    return max(fits, key=lambda fit: fit[:2])[2] if fits else None


def suffix(files: Sequence[str]) -> str:
    """The files' common suffix, or `.*`."""
    ends = {"." + file.rpartition(".")[2] for file in files}
    return ends.pop() if len(ends) == 1 else ".*"
