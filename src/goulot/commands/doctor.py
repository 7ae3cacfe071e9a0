"""`goulot doctor`: whether this machine and checkout are ready for a run, and what to do where they are not."""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

import psutil
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from goulot import kaggle_client, layout, networks, params, samples, sources, stages, weights
from goulot.errors import GoulotError
from goulot.stages import extract, fetch, finetune

GIB = 2**30
ROOM = 5 * GIB  # the sample and its features take a tenth of it
PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "lightgbm", "dvc", "prefect")
STATUS_S, NAMED = 60, 4  # what `dvc status` may take; stages that are told by name
MARKS = {True: "[green]ok[/]", False: "[red]to do[/]", None: "note"}


class Finding(NamedTuple):
    """One thing looked at. `good` is None where nothing must be done but something could be."""

    what: str
    good: bool | None
    said: str


def run() -> None:
    """Print every finding. Raises GoulotError, after the last one, where something must be put right."""
    findings = [finding for look in LOOKS for finding in _safe(look)]
    table = Table("what", "state", "found", show_lines=False)
    for finding in findings:
        table.add_row(finding.what, MARKS[finding.good], finding.said)
    Console().print(table)
    if wrong := [finding.what for finding in findings if finding.good is False]:
        raise GoulotError(f"not ready: {', '.join(dict.fromkeys(wrong))}")


def _safe(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A look that ends in an error of the user's is a finding itself."""
    try:
        yield from look()
    except GoulotError as error:
        yield Finding(look.__name__.strip("_"), False, str(error))


def _machine() -> Iterator[Finding]:
    import torch

    from goulot import processor

    python = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Finding("python", good, python if good else f"{python}; goulot needs 3.11: make PYTHON=python3.11 install")
    yield Finding("cores, memory", None, f"{processor.cores()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if names:
        yield Finding("gpu", True, ", ".join(names))
    elif shutil.which("nvidia-smi"):
        yield Finding("gpu", False, "nvidia-smi is here, but torch sees no GPU; install a torch built for CUDA "
                                    "(pytorch.org/get-started) and check the driver")  # fmt: skip
    elif asked := _ask_for_cuda():
        yield Finding("gpu", False, f"none, but params.yaml says {' and '.join(asked)}; auto takes the CPU")
    else:
        yield Finding("gpu", None, "none; everything runs on the CPU")


def _ask_for_cuda() -> list[str]:
    """The settings that would fail without a GPU."""
    try:
        devices = {
            "extract.device: cuda": params.load("extract", extract.Params).device,
            "finetune.device: cuda": params.load("finetune", finetune.Params).device,
        }
    except GoulotError:  # `_params` says so
        return []
    return [said for said, device in devices.items() if device == "cuda"]


def _packages() -> Iterator[Finding]:
    """The versions that matter, and every package that goulot needs and that is not here as it wants it."""
    for wanted in map(Requirement, requires("goulot") or ()):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield Finding(wanted.name, False, "not installed; pip install goulot again in this environment")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield Finding(wanted.name, False, f'{found}; pip install "{wanted}"')
        elif wanted.name in PACKAGES:
            yield Finding(wanted.name, True, found)
    try:
        yield Finding("openvino", True, version("openvino"))
    except PackageNotFoundError:
        yield Finding("openvino", None, "not installed; pip install 'goulot[openvino]' extracts faster on most CPUs")


def _disk() -> Iterator[Finding]:
    for what, place in (("disk, here", Path.cwd()), ("disk, feature store", layout.store())):
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        said = f"{free / GIB:,.1f} GiB free"
        yield Finding(what, free >= ROOM, said if free >= ROOM else f"{said}; goulot clean and dvc gc --workspace help")


def _params() -> Iterator[Finding]:
    for stage in iter_modules(stages.__path__):
        params.load(stage.name, import_module(f"goulot.stages.{stage.name}").Params)
    yield Finding("params.yaml", True, "every section is valid")


def _source() -> Iterator[Finding]:
    settings = params.load("fetch", fetch.Params)
    kind, _, rest = settings.source.partition(":")
    if kind == "sample":
        samples.find(rest)
    elif kind == "kaggle":
        kaggle_client.client(GoulotError)
    elif (path := sources.local(settings.source)) is not None and not path.exists():
        yield Finding(
            "source", False, f"{path} is not there; correct fetch.source, or goulot init --from path:<folder>"
        )
        return
    yield Finding("source", True, settings.source)


def _weights() -> Iterator[Finding]:
    for name, backbone in params.load("extract", extract.Params).backbones.items():
        where = f"extract.backbones.{name}"
        try:
            networks.check(backbone.model, f"{where}.model")
            found = weights.find(backbone.model, backbone.weights, f"{where}.weights", fetch=False)
        except GoulotError as error:
            yield Finding(f"weights of {name}", False, str(error))
        else:
            yield Finding(f"weights of {name}", True, found.file.name if found.file else "random")


def _dvc() -> Iterator[Finding]:
    if not Path(".git").exists():
        yield Finding("git", False, "this folder is no repository; git init")
    if not Path(".dvc").is_dir():
        yield Finding("dvc project", False, "no .dvc here; dvc init")
        return
    program, here = shutil.which("goulot"), Path(sys.executable).parent
    if program is None:
        yield Finding("goulot on the PATH", False, f"not there, so dvc repro would not find it; . {here}/activate")
    elif Path(program).parent != here:
        yield Finding(
            "goulot on the PATH", False, f"dvc repro would run {program}, not that of {here}; . {here}/activate"
        )
    lock = Path(".dvc/tmp/lock")
    if lock.exists() and _locked(lock):
        yield Finding("dvc project", True, "a run may be under way")
    else:
        yield _pipeline()


def _pipeline() -> Finding:
    """What `dvc repro` would do."""
    if not Path("dvc.yaml").is_file():
        return Finding("dvc project", False, "no dvc.yaml here; run goulot in the root of the repository")
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=STATUS_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("dvc project", None, f"ready; what is to be run takes over {STATUS_S} s to find out: dvc status")
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["dvc status fails"])[0]
        return Finding("dvc project", False, said.removeprefix("ERROR: "))
    stages = list(json.loads(ended.stdout))
    named = ", ".join(stages[:NAMED]) + (f" and {len(stages) - NAMED} more" if len(stages) > NAMED else "")
    return Finding("dvc project", True, f"ready; dvc repro has to look at {named}" if stages else "up to date")


def _locked(lock: Path) -> bool:
    """Whether a process holds DVC's lock; the file alone stays behind."""
    import fcntl

    with lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _prefect() -> Iterator[Finding]:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        yield Finding("prefect server", None, "none configured; make flow needs none, make serve starts one")
        return
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=3):  # noqa: S310  the user's own setting
            yield Finding("prefect server", True, url)
    except (urllib.error.URLError, ValueError, OSError) as error:
        reason = getattr(error, "reason", error)
        yield Finding("prefect server", False, f"{url} does not answer ({reason}); start it, or unset PREFECT_API_URL")


LOOKS = (_machine, _packages, _disk, _params, _source, _weights, _dvc, _prefect)
