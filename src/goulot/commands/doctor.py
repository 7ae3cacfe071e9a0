"""`goulot doctor`: whether this machine and checkout are ready for a run, and what to do where they are not."""

import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from goulot import kaggle_client, layout, networks, params, samples, sources, stages, weights
from goulot.errors import GoulotError
from goulot.stages import extract, fetch

GIB = 2**30
ROOM = 5 * GIB  # the sample and its features take a tenth of it
PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "lightgbm", "dvc", "prefect")
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

    from goulot.engine import cores

    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), python)
    yield Finding("cores, memory", None, f"{cores()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if names:
        yield Finding("gpu", True, ", ".join(names))
    elif shutil.which("nvidia-smi"):
        yield Finding("gpu", False, "nvidia-smi is here, but torch sees no GPU; install a torch built for CUDA "
                                    "(pytorch.org/get-started) and check the driver")  # fmt: skip
    else:
        yield Finding("gpu", None, "none; everything runs on the CPU")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, "not installed; pip install goulot again in this environment")
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
    lock = Path(".dvc/tmp/lock")
    yield Finding("dvc project", True, "a run may be under way" if lock.exists() and _locked(lock) else "ready")


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
