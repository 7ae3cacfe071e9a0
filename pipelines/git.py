"""The few git commands that workspaces need."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import PipelineError

# A file of this size that nobody added is more likely data than code.
LARGE_BYTES = 10_000_000


def git(root: Path, *arguments: str, env: Mapping[str, str] | None = None, send: bytes | None = None) -> str:
    """Run git in a folder, without hooks (`dvc install` puts a checkout in one), and return what it says."""
    command = ["git", "-C", str(root), "-c", "core.hooksPath=/dev/null", *arguments]
    done = subprocess.run(command, input=send, capture_output=True, env={**os.environ, **(env or {})}, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise PipelineError(f"git {arguments[0]} failed: {said[-1]}")
    return done.stdout.decode()


def head(root: Path) -> str:
    """Return the commit that is checked out."""
    try:
        return git(root, "rev-parse", "--verify", "HEAD^{commit}").strip()
    except PipelineError:
        raise PipelineError(
            "a run with overrides or one that is kept needs a commit to start from; commit the project first"
        ) from None


def snapshot(root: Path, ignored: tuple[str, ...]) -> tuple[str, list[str]]:
    """Write the working tree, with what is uncommitted or new, as a git tree; the index stays as it is.

    Returns the tree and the new files that were left out because they are large. `ignored` are folders
    to leave out even where no .gitignore names them.
    """
    index = root / git(root, "rev-parse", "--git-path", "index").strip()
    with tempfile.TemporaryDirectory(prefix="goulot-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        if index.exists():
            # With its time: git takes a file for unchanged that has the size and second noted in an older index.
            shutil.copy2(index, env["GIT_INDEX_FILE"])
        git(root, "add", "--update", ":/", env=env)
        listed = git(root, "ls-files", "--others", "--exclude-standard", "-z", env=env).split("\0")
        new = [path for path in listed if path and not path.startswith(ignored)]
        large = [path for path in new if (root / path).stat().st_size > LARGE_BYTES]
        wanted = "\0".join(path for path in new if path not in large)
        git(root, "update-index", "--add", "-z", "--stdin", env=env, send=wanted.encode())
        return git(root, "write-tree", env=env).strip(), large
