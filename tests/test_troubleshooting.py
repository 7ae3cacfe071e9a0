"""docs/troubleshooting.md: what it quotes is what goulot says."""

import ast
import re
from collections.abc import Iterator

from tests.conftest import ROOT

OTHERS = re.compile(r"\((DVC|the hub)\)")  # who says it, where it is not goulot


def _said() -> Iterator[str]:
    """Every text in the code, `...` for what is filled in."""
    for path in sorted((ROOT / "src/goulot").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[-.\d]*[sdfg]", "...", node.value)


def test_an_error_message_is_quoted_that_no_longer_exists() -> None:
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    quoted = [
        text for row in rows if row.startswith("`") and not OTHERS.search(row) for text in re.findall("`(.+?)`", row)
    ]
    assert len(quoted) > 10
    texts = list(_said())
    for quote in quoted:
        for part in (part.strip() for part in quote.split("...")):
            assert len(part) < 5 or any(part in text for text in texts), quote
