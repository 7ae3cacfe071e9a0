"""A stage never outlives its flow, and its output comes as lines."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from toy import alive, wait_until

from pipelines import runner
from pipelines.errors import RunStoppedError
from pipelines.lines import Lines

TREE = """
import os, subprocess, sys, time
near = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
far = subprocess.Popen([sys.executable, "-c", "import time, signal; signal.signal(15, signal.SIG_IGN); time.sleep(600)"],
                       start_new_session=True)
orphan = subprocess.run([sys.executable, "-c", "import subprocess,sys;"
    "print(subprocess.Popen([sys.executable,'-c','import time; time.sleep(600)'],start_new_session=True,stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL).pid)"],
    capture_output=True, text=True).stdout.strip()
print(os.getpid(), near.pid, far.pid, orphan, flush=True)
time.sleep(%s)
"""


def place(root: Path) -> runner.Place:
    return runner.Place(root, dict(os.environ), runner.Stop())


def begin(here: runner.Place, seconds: float) -> tuple[threading.Thread, list[str], list[object]]:
    """Run the tree in a thread; return its lines as they come, and how it ended."""
    lines: list[str] = []
    ends: list[object] = []

    def work() -> None:
        try:
            ends.append(runner.run([sys.executable, "-c", TREE % seconds], here, lines.append))
        except RunStoppedError as error:
            ends.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: bool(lines), 20)
    return thread, lines, ends


def test_stopping_ends_the_whole_tree_even_what_left_the_group_or_ignores_the_wish(tmp_path: Path) -> None:
    here = place(tmp_path)
    thread, lines, ends = begin(here, 600)
    pids = [int(pid) for pid in lines[0].split()]
    assert alive(pids) == pids
    here.stop.set()
    assert wait_until(lambda: not alive(pids), 5) < 4
    thread.join(5)
    assert isinstance(ends[0], RunStoppedError)


def test_what_a_command_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    thread, lines, ends = begin(place(tmp_path), 0.2)
    thread.join(10)
    assert ends[0] == (0, lines)
    wait_until(lambda: not alive([int(pid) for pid in lines[0].split()]), 3)


def test_killing_the_guard_itself_leaves_nobody_in_its_group(tmp_path: Path) -> None:
    thread, lines, _ = begin(place(tmp_path), 600)
    pids = [int(pid) for pid in lines[0].split()]
    os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)
    wait_until(lambda: not alive(pids[:2]), 5)
    for pid in alive(pids):  # those in sessions of their own are beyond anybody's reach now
        os.kill(pid, signal.SIGKILL)
    thread.join(10)
    assert not thread.is_alive()


def test_the_death_of_the_flow_ends_the_tree(tmp_path: Path) -> None:
    script = (
        "import sys, os; from pathlib import Path; from pipelines import runner\n"
        "here = runner.Place(Path('.'), dict(os.environ), runner.Stop())\n"
        f"runner.run([sys.executable, '-c', {TREE % 600!r}], here, lambda line: print(line, flush=True))\n"
    )
    flow = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert flow.stdout is not None
    pids = [int(pid) for pid in flow.stdout.readline().split()]
    flow.kill()
    assert wait_until(lambda: not alive(pids), 5) < 4
    flow.wait()


def test_a_stopped_run_begins_nothing_more(tmp_path: Path) -> None:
    here = place(tmp_path)
    here.stop.set()
    with pytest.raises(RunStoppedError):
        runner.run(["touch", "here"], here, lambda _line: None)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_status_is_the_commands(tmp_path: Path, code: str, status: int) -> None:
    assert runner.run([sys.executable, "-c", code], place(tmp_path), lambda _line: None)[0] == status


def test_lines_arrive_while_the_command_runs(tmp_path: Path) -> None:
    came: list[float] = []
    code = "import time\nfor n in range(3): print(n, flush=True); time.sleep(0.4)"
    runner.run([sys.executable, "-c", code], place(tmp_path), lambda _line: came.append(time.monotonic()))
    assert came[2] - came[0] > 0.6


def test_the_workspaces_own_code_and_this_interpreters_scripts_come_first(tmp_path: Path) -> None:
    env = runner.environment(tmp_path, tmp_path / "store", {"PATH": "/bin", "PYTHONPATH": "/other", "PREFECT__X": "1"})
    assert env["PYTHONPATH"] == f"{tmp_path}/src{os.pathsep}/other"
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert env["GOULOT_STORE"] == str(tmp_path / "store")
    assert "PREFECT__X" not in env


def test_a_progress_bar_becomes_a_line_now_and_then() -> None:
    now = [0.0]
    lines = Lines(every=10, clock=lambda: now[0])
    said: list[str] = []
    for step in range(101):
        now[0] = step * 0.25
        said += lines.feed(f"\r{step:3d}%|{'█' * (step // 10)}{' ' * (10 - step // 10)}| {step}/100".encode())
    said += lines.feed("\r100%|██████████| 100/100\nafter\n".encode())
    assert said == [" 40% 40/100", " 80% 80/100", "100% 100/100", "after"]


def test_lines_survive_colours_split_letters_and_a_missing_end() -> None:
    lines = Lines()
    data = "\x1b[31mrot\x1b[0m é\r\nlast".encode()
    said = [line for at in range(len(data)) for line in lines.feed(data[at : at + 1])]
    assert [*said, *lines.end()] == ["rot é", "last"]


def test_a_bar_without_an_end_takes_no_memory() -> None:
    lines = Lines(every=1e9)
    for step in range(10_000):
        list(lines.feed(f"\r{step}".encode()))
    assert len(lines._rest) < 10
