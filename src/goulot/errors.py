"""The one family of errors that a person sees as a single line: the value, what is allowed, the fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class GoulotError(Exception):
    """Anything that the user can put right; the command line prints it without a traceback."""


class ParamsError(GoulotError):
    """`params.yaml` does not say what a stage can do."""


class DataError(GoulotError):
    """The competition's tables or images are not what they are declared to be."""


class WeightsError(GoulotError):
    """A network's weights are missing or are not that network's."""


class ArtifactError(GoulotError):
    """A file of an earlier stage is missing, damaged or does not fit."""


class LedgerError(GoulotError):
    """Rows and folds do not match."""


class SubmissionError(GoulotError):
    """A submission that the competition would refuse."""


def choices(kind: str, value: str, allowed: Iterable[str], where: str) -> str:
    """The line for a name that is not among the known ones, with the nearest of them."""
    names = sorted(allowed)
    near = get_close_matches(value, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {kind} {value!r}; {where} {', '.join(names) or 'nothing'}{hint}"
