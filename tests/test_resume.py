"""Whatever ends an extraction, a kill or a full disk: the store holds nothing wrong, and the next run goes on."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from goulot import layout
from goulot.artifacts import read_table
from goulot.features import Features
from goulot.store import Store
from tests.test_extract import computed, features
from tests.tiny import Workspace

# A shard for every batch, so that there is something to lose between any two moments.
CHILD = """
from goulot import cli, extraction
extraction.SHARD_ROWS = 8
cli.run_stage("extract", "tiny")
"""


def everything() -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """The stage's output and the maps that stay in the store."""
    rows = read_table(layout.features("tiny") / "rows.parquet")
    held = Features(rows)
    return features(), {c: held.maps("tiny", c).read(np.arange(len(rows))) for c in ("s2.map", "input.map")}


def shards() -> list[Path]:
    return sorted(layout.store().rglob("*.arrow"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["float16", "int8"])
def test_kills_at_any_moment_leave_other_bytes_or_lose_what_was_done(
    ready: Workspace, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    ready.params["extract"]["backbones"]["tiny"]["maps"] = ["s2", "input"]
    ready.set("extract.maps", form)
    ready.run("extract tiny")
    before = everything()
    shutil.rmtree(layout.store())
    rng = random.Random(form)
    for shot in range(8):
        held = shards()
        process = subprocess.Popen([sys.executable, "-c", CHILD], stderr=subprocess.PIPE)
        wanted = len(held) + rng.randint(0, 9)
        while process.poll() is None and len(shards()) < wanted:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        _, said = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said.decode()
        assert set(held) <= set(shards()), shot
    caplog.set_level("INFO", logger="goulot")
    caplog.clear()  # of the whole run's lines: a test before this one may have turned them on
    ready.run("extract tiny")
    ((missing, rows),) = computed(caplog.text)
    assert "is damaged" not in caplog.text
    assert missing <= rows - 8 * min(len(list(layout.store().rglob(f"{part}/*.arrow"))) - 1 for part in
                                     ("vectors", f"s2.map.{form}", f"input.map.{form}"))  # fmt: skip
    after = everything()
    assert after[0] == before[0]
    assert all(np.array_equal(after[1][column], before[1][column]) for column in before[1])


@contextmanager
def small_disk(place: Path, kib: int) -> Iterator[None]:
    """A disk of that size at the place, where this user may mount one."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def filled(ready: Workspace) -> dict[str, bytes]:
    """What the whole run gives; then nothing is left of it."""
    before = features()
    shutil.rmtree(layout.store())
    shutil.rmtree(layout.features("tiny"))
    return before


def test_a_full_disk_of_the_store_gives_a_traceback_or_a_damaged_shard(
    ready: Workspace, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("goulot.extraction.SHARD_ROWS", 40)
    sizes = [path.stat().st_size for path in shards()]
    before = filled(ready)
    with small_disk(layout.store(), sum(sizes) // 1024 * 3 // 4):
        line = refusal("extract", "tiny")
        assert "No space left on device" in line
        assert str(layout.store()) in line
        held = shards()
        assert held
        assert not list(layout.store().rglob("*.partial"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(layout.store())], check=True)  # room was made
        caplog.set_level("INFO", logger="goulot")
        ready.run("extract tiny")
        assert computed(caplog.text)[-1] == (160 - 40 * len(held), 160)
        assert "is damaged" not in caplog.text
        assert features() == before


@pytest.mark.slow
def test_a_full_disk_of_the_output_ends_the_process_without_a_word(
    ready: Workspace, child: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    before = features()
    shutil.rmtree(layout.features("tiny"))
    with small_disk(layout.EXTRACT, sum(map(len, before.values())) // 1024 * 3 // 4):
        done = child("-m", "goulot", "extract", "tiny")  # a process of its own: it might be ended by SIGBUS
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert last.startswith("goulot: cannot write ")
        assert "No space left on device" in last
    ready.run("extract tiny")
    assert features() == before


def test_a_file_too_large_for_the_user_s_limit_gives_a_traceback(
    ready: Workspace, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(path.stat().st_size for path in shards())
    before = filled(ready)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, hard))
    try:
        line = refusal("extract", "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in line
    assert "File too large" in line
    assert not shards()
    assert not list(layout.store().rglob("*.partial"))
    ready.run("extract tiny")
    assert features() == before


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_shard_cut_short_by_a_dead_machine_gives_a_traceback(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, {})
    store.add(["a"], {"head": np.ones((1, 4), dtype=np.float16)})
    (shard,) = store.folder.glob("*.arrow")
    data = shard.read_bytes()[:size]
    shard.unlink()
    shard.write_bytes(data)
    assert Store(tmp_path, {}).missing(["a"], ["head"]) == {"head": {"a"}}
    assert f"{shard} is damaged" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_may_not_be_written_gives_a_traceback(ready: Workspace, refusal: Callable[..., str]) -> None:
    shutil.rmtree(layout.store())
    layout.store().mkdir()
    layout.store().chmod(0o555)
    assert "cannot write" in refusal("extract", "tiny")
