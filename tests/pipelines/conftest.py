"""A Prefect server on the loopback address and a toy repository for each test; nothing of the user's is touched."""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import toy as toys

from pipelines import serve

# A shell that starts the tests in the background has its children ignore interrupts, and theirs as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy repository as committed, made once."""
    root = tmp_path_factory.mktemp("template") / "toy"
    toys.make(root, root.with_name("control"))
    return root


@pytest.fixture
def toy(template: Path, tmp_path: Path) -> toys.Toy:
    """A toy repository of the test's own."""
    root = tmp_path / "toy"
    shutil.copytree(template, root, symlinks=True)
    (tmp_path / "control").mkdir()
    return toys.Toy(root, tmp_path / "control")


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[toys.Api]:
    """A real Prefect server."""
    home = tmp_path_factory.mktemp("prefect")
    before = {name: os.environ.get(name) for name in ("PREFECT_HOME", "PREFECT_API_URL")}
    os.environ["PREFECT_HOME"] = str(home)
    try:
        with serve.server(home, free_port()) as url:
            yield toys.Api(url)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@pytest.fixture
def server_env(api: toys.Api) -> dict[str, str]:
    """What a flow's process has to know of the server."""
    return {"PREFECT_API_URL": api.url, "PREFECT_HOME": os.environ["PREFECT_HOME"]}


@pytest.fixture
def offline_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without credentials or settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
