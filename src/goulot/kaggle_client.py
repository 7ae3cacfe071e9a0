"""Kaggle by its official package; what that prints or hides when something goes wrong is turned into one line."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from goulot.errors import GoulotError

CREDENTIALS = "create a token in your Kaggle settings and put it in KAGGLE_API_TOKEN or ~/.kaggle/access_token"


def client(fault: type[GoulotError]) -> Any:
    """A client that has its credentials. The package prints a page and exits where it finds none."""
    try:
        from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        raise fault("the kaggle package is missing; pip install 'goulot[kaggle]'") from error
    api = KaggleApi()
    try:
        api.authenticate()
    except SystemExit:
        raise fault(f"no Kaggle credentials, or they are no longer valid; {CREDENTIALS}") from None
    return api


@contextlib.contextmanager
def speaking(competition: str, asked: str, fault: type[GoulotError]) -> Iterator[None]:
    """Keep the package from printing, and say in one line what the competition had against what was asked."""
    from requests import RequestException

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except GoulotError:
        raise
    except RequestException as error:
        raise fault(_refused(competition, asked, error)) from error
    except ValueError as error:
        raise fault(f"{competition}: {error}") from error


def _refused(competition: str, asked: str, error: Any) -> str:
    answer = error.response
    if answer is None:
        return f"Kaggle cannot be reached: {type(error).__name__}; check the connection and try again"
    said = _said(answer) or str(error)
    if answer.status_code == 401:
        return f"Kaggle does not accept the credentials ({said}); {CREDENTIALS}"
    if answer.status_code == 403:
        rules = f"accept the competition's rules on its page first (https://www.kaggle.com/c/{competition}/rules)"
        return f"{competition}: not allowed ({said}); {rules}"
    if answer.status_code == 404:
        return f"Kaggle knows no competition {competition!r}; its name is the last part of its page's address"
    return f"{competition} refused {asked} ({answer.status_code}): {said}"


def _said(answer: Any) -> str:
    try:
        return str(answer.json().get("message", "")).strip()
    except (ValueError, AttributeError):
        return ""
