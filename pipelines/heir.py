"""A small process that outlives a run's own and, if that was killed, puts right what it left.

    python -m pipelines.heir ROOT [PID]

It waits at its standard input, a pipe held open by the run. A run that ends, however badly, says so by a byte. If the
pipe closes without one, the run is shown as crashed, its workspace is removed, as after a cancel, and PID is ended, the
server that Prefect had started for this run alone. Should this process die as well, the next start does the same.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# By then the guards have ended the stages.
AFTER_S = 3.0
SERVER = "prefect.server.api.server:create_app"


def main(root: Path, servers: list[int]) -> None:
    """Wait for the end of the run; import what is slow only if there is something to do."""
    if os.read(0, 1):
        return
    time.sleep(AFTER_S)
    from pipelines import competition

    try:
        competition.tidy(root, lambda _line: None)
    finally:
        for server in servers:
            with suppress(ProcessLookupError):
                os.kill(server, signal.SIGTERM)


@contextmanager
def waiting(root: Path) -> Iterator[None]:
    """Have an heir for as long as the run lasts."""
    own = _own_server()
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    heir = subprocess.Popen(
        [sys.executable, "-m", "pipelines.heir", str(root), *([own[0]] if own else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**env, "PREFECT_API_URL": own[1]} if own else env,
        start_new_session=True,
    )
    try:
        yield
    finally:
        heir.communicate(b".")


def _own_server() -> tuple[str, str] | None:
    """Return the process and the address of the server that Prefect starts for a run where none is configured."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            line = child.cmdline()
            if SERVER in line:
                return str(child.pid), f"http://127.0.0.1:{line[line.index('--port') + 1]}/api"
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(pid) for pid in sys.argv[2:]])
