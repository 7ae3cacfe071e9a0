"""A finished run as a named DVC experiment.

An experiment is a commit on top of the one it started from, under a reference that names both. It is
written with git alone: `dvc exp save` keeps its notes in references that all worktrees share, so that it
would break a `dvc exp run` that is under way in the main checkout, and in a shallow clone it ends well and
saves nothing.
"""

import getpass
import socket
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from dvc.repo.experiments.refs import ExpRefInfo

from pipelines import git
from pipelines.errors import PipelineError
from pipelines.session import IGNORED, RUNS, STATE, WORKSPACES


def free_names(main: Path, wanted: str) -> Iterator[str]:
    """Yield the name and then the name with a number, without those that a run or an experiment has already."""
    taken = {path.name for folder in (RUNS, f"{STATE}/{WORKSPACES}") for path in (main / folder).glob("*")} | {
        ref.rpartition("/")[2] for ref in git.git(main, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    }
    for name in chain([wanted], (f"{wanted}-{number}" for number in count(2))):
        if name not in taken:
            yield name


def save(root: Path, name: str) -> str:
    """Save the files of a workspace, new ones too, as the experiment `name`; the index stays as it is."""
    baseline = git.head(root)
    tree, _ = git.snapshot(root, IGNORED)
    message = f"goulot: run {name}"
    commit = git.git(root, "commit-tree", tree, "-p", baseline, "-m", message, env=_identity(root)).strip()
    # The zeros make git refuse a reference that is there already.
    git.git(root, "update-ref", str(ExpRefInfo(baseline, name)), commit, "0" * len(commit))
    return name


def _identity(root: Path) -> dict[str, str]:
    """Return a name for the commit where git knows none, as DVC does."""
    try:
        git.git(root, "var", "GIT_COMMITTER_IDENT")
    except PipelineError:
        user, host = getpass.getuser(), socket.gethostname()
        who = {"NAME": user, "EMAIL": f"{user}@{host}"}
        return {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    return {}
