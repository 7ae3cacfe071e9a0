"""A small DVC repository with the shape of the real one, and what the tests do with it."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]

PARAMS = """\
# A comment that must survive.
augment:
  policy: dihedral   # so must this
  views: 3
  seed: 0
  preview: 6
extract:
  backbones:
    a: {}
    b: {}
"""

PIPELINE = """\
stages:
  fetch:
    cmd: python toy_stage.py fetch data/raw
    deps: [toy_stage.py]
    outs: [data/raw]
  augment:
    cmd: python toy_stage.py augment data/augment data/raw
    deps: [data/raw, toy_stage.py]
    params: [augment]
    outs: [data/augment]
  extract:
    foreach: ${extract.backbones}
    do:
      cmd: python toy_stage.py extract@${key} data/extract/${key} data/augment
      deps: [data/augment, toy_stage.py]
      outs: ["data/extract/${key}"]
      meta: {resource: gpu, retries: 1}
  audit:
    cmd: python toy_stage.py audit data/audit data/raw
    deps: [data/raw/out.txt, toy_stage.py]
    outs: [data/audit]
  blend:
    cmd: python toy_stage.py blend data/blend data/extract data/audit
    deps: [data/audit, data/extract, toy_stage.py]
    outs: [data/blend]
  submit:
    cmd: python toy_stage.py submit data/submit data/blend
    deps: [data/blend, toy_stage.py]
    outs: [data/submit]
  report:
    cmd: python toy_stage.py report data/report data/submit
    deps: [data/submit, toy_stage.py]
    outs: [data/report]
metrics:
  - data/blend/metrics.json
plots:
  - data/blend/curve.png
"""
STAGES = ["fetch", "augment", "extract@a", "extract@b", "audit", "blend", "submit", "report"]


class Toy:
    """A repository, and a folder outside of it by which its stages are told to misbehave."""

    def __init__(self, root: Path, control: Path) -> None:
        self.root = root
        self.control = control

    def env(self, **more: str) -> dict[str, str]:
        """The environment of its processes: this interpreter, the project's code, no state of the user's."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "GOULOT_"))}
        return {
            **kept,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)]),
            "TOY_CONTROL": str(self.control),
            "GOULOT_SLOT_DIR": str(self.control / "slots"),
            "GOULOT_GPU_SLOTS": "2",
            "DVC_NO_ANALYTICS": "1",
            "NO_COLOR": "1",
            **more,
        }

    def order(self, stage: str, text: str) -> None:
        """Tell a stage to misbehave."""
        (self.control / stage).write_text(text)

    def calls(self) -> list[str]:
        """The stages that have run, in the order of their beginnings."""
        file = self.control / "calls"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []

    def forget_calls(self) -> None:
        """Count anew."""
        (self.control / "calls").unlink(missing_ok=True)

    def run(self, *command: str, ok: bool = True, **env: str) -> str:
        """Run a command in the repository and return what it printed."""
        done = subprocess.run(
            command, cwd=self.root, env=self.env(**env), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False, timeout=180,
        )  # fmt: skip
        assert (done.returncode == 0) == ok, done.stdout
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        """Run DVC."""
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def git(self, *arguments: str) -> str:
        """Run git."""
        return self.run("git", *arguments)

    def flow(self, *arguments: str, ok: bool = True, **env: str) -> str:
        """Run the flow in a process of its own and return its log."""
        return self.run(sys.executable, "-m", "pipelines.flows", *arguments, ok=ok, **env)

    def start_flow(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        """Begin a flow and go on."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.flows", *arguments], cwd=self.root, env=self.env(**env), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def data(self) -> dict[str, bytes]:
        """Every output, byte for byte."""
        files = sorted(path for path in (self.root / "data").rglob("*") if path.is_file())
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}

    def tree(self, stage: str) -> list[int]:
        """The processes of a stage that was told `tree`."""
        file = self.control / f"{stage}.tree"
        wait_until(lambda: file.exists() and len(file.read_text().split()) == 3, 60)
        return [int(number) for number in file.read_text().split()]


def make(root: Path, control: Path, pipeline: str = PIPELINE, params: str = PARAMS) -> Toy:
    """Make a repository with one commit."""
    control.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "toy_stage.py", root)
    (root / "params.yaml").write_text(params)
    (root / "dvc.yaml").write_text(pipeline)
    (root / ".gitignore").write_text("/data/\n/.goulot/\n/runs/\n")
    toy = Toy(root, control)
    toy.git("init", "-q", "-b", "main")
    toy.git("config", "user.email", "toy@example.com")
    toy.git("config", "user.name", "Toy")
    toy.dvc("init", "-q")
    commit(toy, "toy")
    return toy


def commit(toy: Toy, message: str) -> None:
    """Commit everything."""
    toy.git("add", "-A")
    toy.git("commit", "-q", "-m", message)


def wait_until(there: Callable[[], bool], seconds: float, every: float = 0.05) -> float:
    """Wait for something to be so, and return how long that took."""
    began = time.monotonic()
    while not there():
        assert time.monotonic() - began < seconds, f"still not so after {seconds} s"
        time.sleep(every)
    return time.monotonic() - began


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that live."""
    living = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                living.append(pid)
        except psutil.NoSuchProcess:
            continue
    return living


class Api:
    """The server's HTTP interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, path: str, body: Mapping[str, Any] | list[Any] | None = None) -> Any:
        """Get, or post if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code}: {error.read().decode()}") from error

    def last_run(self, flow: str = "compete") -> dict[str, Any]:
        """The run that was created last."""
        found = self.call(
            "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 20, "flows": {"name": {"any_": [flow]}}}
        )
        return max(found, key=lambda run: run["created"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A flow run."""
        return self.call(f"/flow_runs/{run_id}")

    def tasks(self, run_id: str) -> dict[str, dict[str, Any]]:
        """A run's tasks by name."""
        wish = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 100}
        return {task["name"]: task for task in self.call("/task_runs/filter", wish)}

    def logs(self, run_id: str) -> list[dict[str, Any]]:
        """A run's log lines, its tasks' too."""
        wish = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
        return self.call("/logs/filter", wish)

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """A run's artifacts by key."""
        wish = {"artifacts": {"flow_run_id": {"any_": [run_id]}}, "limit": 100}
        return {artifact["key"]: artifact for artifact in self.call("/artifacts/filter", wish)}


def wait_for(find: Callable[[], Any], seconds: float) -> Any:
    """Wait until something is found, and return it."""
    found: list[Any] = []
    wait_until(lambda: bool(found.append(find()) or found[-1]), seconds, every=0.3)
    return found[-1]


def when(text: str) -> float:
    """A time of the server's, in seconds."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
