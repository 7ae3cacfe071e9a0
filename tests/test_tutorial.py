"""The tutorial: what it tells a newcomer to run ends as it says."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_repro import Clone, _take

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _plain(line: str) -> str:
    """Without what differs from machine to machine: numbers, times, and so the widths of tables."""
    return " ".join(re.sub(r"([━─])+", r"\1", re.sub(r"[-+]?\d[\d.,:]*", "#", line)).split())


@pytest.mark.slow
def test_a_command_of_the_tutorial_fails_or_says_something_else(tmp_path: Path) -> None:
    made, home = Clone(tmp_path / "clone"), tmp_path / "home"
    home.mkdir()
    _take(ROOT, made.root)
    made.environment |= {"HOME": str(home), "GOULOT_ENGINES": str(tmp_path / "engines"), "COLUMNS": "120"}
    for command in ("git init -q", "git config user.name t", "git config user.email t@example.org", "git add -A"):
        made.call(*command.split())
    made.call("git", "commit", "-qm", "as it is")
    said = ""
    for kind, text in BLOCK.findall((ROOT / "docs/tutorial.md").read_text()):
        if kind == "sh":
            ended = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], cwd=made.root, env=made.environment, capture_output=True,
                text=True, timeout=1800, check=False,
            )  # fmt: skip
            assert ended.returncode == 0, ended.stderr[-3000:]
            said = ended.stdout + ended.stderr
        else:
            lines = {_plain(line) for line in said.splitlines()}
            missing = [line for line in text.splitlines() if line != "..." and _plain(line) not in lines]
            assert not missing, said
    assert (made.root / "data/report/index.html").is_file()
