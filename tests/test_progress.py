"""Progress: what a person sees of a stage on a terminal, and what a log says of it."""

import contextlib
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from goulot import progress

SHOWN = """
import time
from goulot.progress import track

def folds():
    for number in range(3):
        time.sleep(0.4)
        yield number

list(track(folds(), total=3, unit="folds", label="learn svm"))
"""


def test_a_bar_does_not_tell_the_rate_or_the_time_left_after_one_item() -> None:
    seen, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", SHOWN], stderr=terminal, env=environment):
        os.close(terminal)
        said = b""
        with contextlib.suppress(OSError):  # as Linux tells the end
            while part := os.read(seen, 4096):
                said += part
    os.close(seen)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode())
    assert re.search(r"learn svm .*0/3 folds +0:00:00 so far", text)
    assert re.search(r"1/3 folds \S+ (s each )?0:00:01 left", text)


def test_a_log_has_no_line_of_a_long_stage_or_many_of_a_short_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def items(each: float) -> Iterator[int]:
        for number in range(8):
            now[0] += each
            yield number

    with caplog.at_level(logging.INFO, logger="goulot"):
        assert list(progress.track(items(0.2), total=8, unit="images", label="short")) == list(range(8))
        assert caplog.messages == []
        list(progress.track(items(10), total=8, unit="folds", label="long"))
    assert caplog.messages[0] == "long: 2 of 8 folds, 10.0 s each, 60 s left"
    assert len(caplog.messages) == 3
