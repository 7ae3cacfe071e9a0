"""Locks end with their holders: our own, GPU slots, and what a killed DVC leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import Toy, wait_until

from pipelines import gpu, locks
from pipelines.errors import PipelineError, RunStoppedError

HOLD = """
import sys, time
from pipelines import gpu, runner
import os
from pathlib import Path
here = runner.Place(Path('.'), dict(os.environ), runner.Stop())
with gpu.slot(lambda: False, print) as slot:
    runner.run([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(600)'], here,
               lambda line: print(line, flush=True), hand_on=[slot.lock.handle])
"""


@pytest.fixture(autouse=True)
def own_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOULOT_SLOT_DIR", str(tmp_path / "slots"))
    monkeypatch.setenv("GOULOT_GPU_SLOTS", "1")


def test_a_slot_is_one_machines_and_free_at_once_when_its_holder_is_killed() -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    assert not locks.FileLock(gpu.folder() / "gpu-0.lock").take()
    holder.send_signal(signal.SIGKILL)
    said: list[str] = []
    began = time.monotonic()
    with gpu.slot(lambda: False, said.append):
        assert time.monotonic() - began < 4
    holder.wait()


def test_a_second_stage_waits_and_can_be_stopped_while_it_does() -> None:
    said: list[str] = []
    with gpu.slot(lambda: False, said.append), pytest.raises(RunStoppedError), gpu.slot(lambda: True, said.append):
        pass
    assert said == ["waiting for a GPU slot (1 on this machine, all taken)"]


def test_the_number_of_slots_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOULOT_GPU_SLOTS", "none")
    with pytest.raises(PipelineError, match="GOULOT_GPU_SLOTS is 'none'; allowed is a whole number from 1"):
        gpu.slots_here()


def test_one_of_several_gpus_is_shown_to_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_installed", lambda: 2)
    monkeypatch.delenv("GOULOT_GPU_SLOTS")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with gpu.slot(lambda: False, print) as first, gpu.slot(lambda: False, print) as second:
        assert [first.env, second.env] == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]


@pytest.mark.parametrize(
    ("chosen", "slots", "env"),
    [("1", 1, {}), ("3, 1", 2, {"CUDA_VISIBLE_DEVICES": "3"}), ("", 1, {}), ("2,-1,0", 1, {})],
)
def test_stages_share_a_gpu_that_was_chosen_or_take_one_that_was_not(
    chosen: str, slots: int, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_installed", lambda: 4)
    monkeypatch.delenv("GOULOT_GPU_SLOTS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpu.slots_here() == slots
    with gpu.slot(lambda: False, print) as held:
        assert held.env == env


def entry(pid: int, cmd: str) -> dict[str, object]:
    return {"pid": pid, "cmd": cmd}


def test_locks_of_dead_processes_go_also_where_their_number_lives_again(toy: Toy) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    dvc = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "repro", "live"])
    table = toy.root / ".dvc/tmp/rwlock"
    table.write_text(
        json.dumps(
            {
                "write": {
                    "/a": entry(gone.pid, "dvc repro dead"),
                    "/b": entry(os.getpid(), "dvc repro reused"),
                    "/c": entry(dvc.pid, "/bin/dvc repro live"),
                },
                "read": {"/d": [entry(gone.pid, "dvc repro dead"), entry(dvc.pid, "/bin/dvc repro live")]},
            }
        )
    )
    said = locks.clear_stale(toy.root)
    dvc.kill()
    dvc.wait()
    assert len(said) == 2
    assert any("dvc repro reused" in line for line in said)
    left = json.loads(table.read_text())
    assert set(left["write"]) == {"/c"}
    assert [held["pid"] for held in left["read"]["/d"]] == [dvc.pid]
    assert locks.clear_stale(toy.root.parent) == []


def test_a_half_written_table_of_locks_is_removed(toy: Toy) -> None:
    (toy.root / ".dvc/tmp/rwlock").write_text('{"write": {')
    assert "half-written" in locks.clear_stale(toy.root)[0]
    toy.dvc("repro", "fetch")


def test_a_live_dvc_keeps_its_locks(toy: Toy) -> None:
    toy.order("fetch", "sleep 4")
    running = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "fetch"], cwd=toy.root, env=toy.env())
    table = toy.root / ".dvc/tmp/rwlock"
    wait_until(lambda: table.exists() and "raw" in table.read_text() and (toy.control / "fetch.pid").exists(), 20)
    assert locks.clear_stale(toy.root) == []
    assert running.wait(30) == 0
