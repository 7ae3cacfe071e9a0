"""The page: a Prefect server, if none is configured, and this checkout's flows at its disposal.

python -m pipelines.serve
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from prefect import Flow, serve
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_RUNNER_POLL_FREQUENCY,
    PREFECT_UI_URL,
    get_current_settings,
    temporary_settings,
)
from prefect.types.entrypoint import EntrypointType
from rich.console import Console

from goulot.errors import GoulotError
from pipelines import competition, files, flows, graph, runner
from pipelines.errors import PipelineError
from pipelines.session import STATE

PORT = 4200
NAME = "goulot"
START_S = 90.0
# How long a click waits, at most, until its run begins; Prefect's own default is 10.
POLL_S = 2


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.serve", description="Open the page.")
    parser.add_argument("--port", type=int, default=PORT, help="of the page, where no server is configured")
    port = parser.parse_args(arguments).port
    root = graph.find_root()
    with ExitStack() as held:
        api = get_current_settings().api.url
        if api is None:
            api = held.enter_context(server(root, port))
        held.enter_context(temporary_settings({PREFECT_API_URL: api, PREFECT_RUNNER_POLL_FREQUENCY: POLL_S}))
        os.environ["PREFECT_API_URL"] = api
        # The runs start where this process is, and what they read and write lies below the root.
        os.chdir(root)
        os.environ["GOULOT_FILES_URL"] = held.enter_context(files.served(root, port + 1))
        page = PREFECT_UI_URL.value() or api.removesuffix("/api")
        console = Console()
        competition.tidy(root, console.print)
        console.print(f"\nThe page: [link={page}/deployments]{page}/deployments[/link]  (Ctrl-C ends it)\n")
        serve(*deployments(root), print_starting_message=False)


def deployments(root: Path) -> list[RunnerDeployment]:
    """Return both flows as deployments; the form of `compete` offers the stages of this checkout."""
    compete, send = (_deployment(flow) for flow in (flows.compete, flows.send))
    names = graph.stage_names(root)
    families = dict.fromkeys(name.partition("@")[0] for name in names)
    targets = compete._parameter_openapi_schema.properties["targets"]
    targets["items"] = {"type": "string", "enum": list(dict.fromkeys([*families, *names]))}
    return [compete, send]


def _deployment(flow: Flow[..., Any]) -> RunnerDeployment:
    made = flow.to_deployment(name=NAME, entrypoint_type=EntrypointType.MODULE_PATH)
    return cast(RunnerDeployment, made)


@contextmanager
def server(root: Path, port: int = PORT) -> Iterator[str]:
    """Start a Prefect server on the loopback address, or find one there; yield the address of its API."""
    if _answers(port):
        yield f"http://127.0.0.1:{port}/api"
        return
    port = port if _free(port) else _any_port()
    log = root / STATE / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # -P: the modules beside it would hide others of their names.
    started = "-P", str(Path(__file__).with_name("server.py")), str(port)
    with log.open("wb") as out:
        # The guard ends the server with this process, however that ends.
        guard = subprocess.Popen(
            [sys.executable, "-I", str(runner.GUARD), "2", sys.executable, *started],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env={**os.environ, "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api"},
            start_new_session=True,
        )
    try:
        _await_server(guard, port, log)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        guard.communicate()


def _await_server(guard: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while not _answers(port):
        if guard.poll() is not None or time.monotonic() > until:
            raise PipelineError(f"the Prefect server did not start; see {log}")
        time.sleep(0.3)


def _answers(port: int) -> bool:
    """Whether a Prefect server answers at the port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2) as answer:
            return json.load(answer) is True
    except (OSError, ValueError):
        return False


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    try:
        main()
    except GoulotError as error:
        sys.exit(str(error))
