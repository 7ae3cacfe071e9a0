"""`dvc repro` in a clean clone: how long it takes, again with nothing changed, and how much memory a stage needs.

    python benchmarks/pipeline.py

Prints the seconds of the first run, of a second one with nothing changed, of one after a change of `blend` alone, the
largest anonymous memory of any process below each stage (sampled ten times a second), and whether a second run from
scratch gives the same submission (--twice).
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_S = 0.1


def main() -> None:
    """Clone, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twice", action="store_true", help="run from scratch a second time and compare the bytes")
    args = parser.parse_args()
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        clone = fresh_clone(Path(folder) / "first")
        peaks: dict[str, int] = {}
        print(f"dvc repro from scratch: {repro(clone, peaks):.0f} s", flush=True)
        for stage, peak in peaks.items():
            print(f"  {stage}: {peak / 2**20:,.0f} MiB anonymous at most")
        print(f"dvc repro with nothing changed: {min(repro(clone, {}) for _ in range(3)):.1f} s", flush=True)
        yaml = YAML()
        yaml.preserve_quotes, yaml.width = True, 4096
        params = yaml.load(clone / "params.yaml")
        params["blend"]["rounds"] += 1
        yaml.dump(params, clone / "params.yaml")
        ran: dict[str, int] = {}
        print(f"dvc repro after a change of blend: {repro(clone, ran):.1f} s, ran {', '.join(ran)}", flush=True)
        git(clone, "checkout", "params.yaml")
        print("git status:", git(clone, "status", "--porcelain") or "clean")
        if args.twice:
            repro(clone, {})
            second = fresh_clone(Path(folder) / "second")
            repro(second, {})
            name = "data/submit/submission.csv"
            same = (clone / name).read_bytes() == (second / name).read_bytes()
            print("a second run from scratch gives", "the same submission" if same else "ANOTHER submission")


def fresh_clone(folder: Path) -> Path:
    """A clone of the committed state, without any cache."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def git(folder: Path, *words: str) -> str:
    """Output of a git command."""
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def repro(folder: Path, peaks: dict[str, int]) -> float:
    """Seconds of `dvc repro`; fills `peaks` with the largest anonymous bytes of a process, by `goulot` command."""
    bin_dir = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": os.pathsep.join([bin_dir, os.environ["PATH"]]), "DVC_NO_ANALYTICS": "1"}
    env.pop("GOULOT_STORE", None)
    log = folder / ".goulot-bench.log"
    with log.open("w") as file:
        start = time.monotonic()
        process = subprocess.Popen([shutil.which("dvc", path=env["PATH"]) or "dvc", "repro"], cwd=folder, env=env,
                                   stdout=file, stderr=subprocess.STDOUT)  # fmt: skip
        watcher = threading.Thread(target=watch, args=(process, peaks))
        watcher.start()
        process.wait()
        seconds = time.monotonic() - start
        watcher.join()
    if process.returncode:
        sys.exit(f"dvc repro failed:\n{log.read_text()[-3000:]}")
    log.unlink()
    return seconds


def watch(process: "subprocess.Popen[bytes]", peaks: dict[str, int]) -> None:
    """Sample the descendants' anonymous memory until the process ends (Linux)."""
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True) if psutil.pid_exists(process.pid) else []:
            try:
                words = child.cmdline()
                status = Path(f"/proc/{child.pid}/status").read_text()
            except (psutil.Error, OSError):
                continue
            name = stage_of(words)
            anonymous = [line for line in status.splitlines() if line.startswith("RssAnon")]
            if name and anonymous:
                peaks[name] = max(peaks.get(name, 0), int(anonymous[0].split()[1]) * 1024)
        time.sleep(SAMPLE_S)


def stage_of(words: list[str]) -> str:
    """`extract@lite0` for the command line of `goulot extract lite0`; empty for another process."""
    for place, word in enumerate(words[:-1]):
        if word == "goulot" or word.endswith("/goulot"):
            return "@".join(words[place + 1 :])
    return ""


if __name__ == "__main__":
    main()
