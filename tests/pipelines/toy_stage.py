"""The one command of the toy pipeline's stages: `python toy_stage.py NAME OUT [DEP ...]`.

It writes what it was given into OUT, so that a wrong or missing input shows in the bytes. A file named after the stage in
the folder TOY_CONTROL tells it to misbehave: `sleep SECONDS`, `fail`, `fail-once`, `bar`, `tree` (sleeps with a child
and a grandchild in a session of its own). Its process numbers are noted there.
"""

import csv
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

from ruamel.yaml import YAML


def main(name: str, out: Path, deps: list[Path]) -> None:
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    control = Path(os.environ.get("TOY_CONTROL", "nowhere"))
    note(control, name)
    print(f"{name} begins in {Path.cwd().name}", flush=True)
    misbehave(control, name)
    section = params.get(name.partition("@")[0])
    files = sorted(file for dep in deps for file in dep.rglob("*") if file.is_file())
    seen = [f"{file.as_posix()} {zlib.crc32(file.read_bytes()):08x}" for file in files]
    out.mkdir(parents=True, exist_ok=True)
    (out / "out.txt").write_text("\n".join([name, json.dumps(section, sort_keys=True), *seen]) + "\n")
    extras(name, out, zlib.crc32((out / "out.txt").read_bytes()))
    print(f"{name} ends", flush=True)


def note(control: Path, name: str) -> None:
    if control.is_dir():
        with (control / "calls").open("a") as calls:
            calls.write(f"{name} {time.time()} {os.getpid()}\n")
        (control / f"{name}.pid").write_text(f"{os.getpid()}")


def misbehave(control: Path, name: str) -> None:
    file = control / name
    order, _, value = file.read_text().strip().partition(" ") if file.exists() else ("", "", "")
    if order == "sleep":
        time.sleep(float(value))
    elif order == "fail":
        sys.exit(f"{name}: no luck today")
    elif order == "fail-once":
        file.unlink()
        sys.exit(f"{name}: no luck at first")
    elif order == "bar":
        for step in range(200):
            sys.stderr.write(f"\r{step:3d}%|████      | {step}/200")
            time.sleep(0.002)
        sys.stderr.write("\r100%|██████████| 200/200\n")
    elif order == "tree":
        code = "import time; time.sleep(600)"
        near = subprocess.Popen([sys.executable, "-c", code])
        far = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        (control / f"{name}.tree").write_text(f"{os.getpid()} {near.pid} {far.pid}")
        time.sleep(600)


def extras(name: str, out: Path, seed: int) -> None:
    if name == "blend":
        (out / "metrics.json").write_text(json.dumps({"log_loss": seed % 1000 / 1000, "folds": {"best": 0.25}}))
        with (out / "leaderboard.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["learner", "score"], ["logistic", "0.32"], ["svm", "0.33"]])
        (out / "curve.png").write_bytes(png(seed))
    elif name == "submit":
        rows = [["id", "label"], *([f"{number:03d}", f"{seed % (number + 7) / 10:.1f}"] for number in range(20))]
        with (out / "submission.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    elif name == "report":
        (out / "index.html").write_text(f"<title>report</title><h1>The report</h1><p>{seed}</p>")


def png(seed: int) -> bytes:
    """A picture of 64 x 64 pixels."""
    rows = b"".join(b"\0" + bytes((x * y + seed) % 256 for x in range(64)) for y in range(64))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(dep) for dep in sys.argv[3:]])
