"""How long a flow run takes beside `dvc repro`, each from nothing in a clone of its own.

    python benchmarks/flow_vs_repro.py                # eight independent single-threaded stages of 4 s
    python benchmarks/flow_vs_repro.py --project      # this project's whole graph, 10 minutes and more for each

The server is started before the clock is; the page is not part of the race. Both runs share no cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))  # `pipelines` is not installed

from pipelines import serve  # noqa: E402

STAGES, SECONDS = 8, 4
WORK = f"import time; end = time.process_time() + {SECONDS}\nwhile time.process_time() < end: sum(range(1000))\n"


def main() -> None:
    """Print the seconds of both, and of a second run of each with nothing to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", action="store_true")
    project = parser.parse_args().project
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["PREFECT_HOME"] = str(place / "home")
        with serve.server(place, serve._any_port()) as url:
            commands = {
                "dvc repro": [sys.executable, "-m", "dvc", "repro"],
                "flow": [sys.executable, "-m", "pipelines.flows"],
            }
            for name, command in commands.items():
                root = clone(place / name.replace(" ", "-")) if project else independent(place / name.replace(" ", "-"))
                first, second = (timed(command, root, url) for _ in range(2))
                print(f"{name:10} {first:7.1f} s, again with nothing to do {second:5.1f} s")


def independent(root: Path) -> Path:
    """A graph of stages that do not wait for each other."""
    root.mkdir()
    (root / "work.py").write_text(WORK + "import sys; open(sys.argv[1], 'w').write(sys.argv[1])\n")
    lines = ["stages:"]
    for number in range(STAGES):
        lines += [
            f"  s{number}:",
            f"    cmd: python work.py o{number}",
            "    deps: [work.py]",
            f"    outs: [o{number}]",
        ]
    (root / "dvc.yaml").write_text("\n".join(lines) + "\n")
    (root / ".gitignore").write_text("/.goulot/\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    return root


def clone(root: Path) -> Path:
    """The project as committed, without its data and its cache."""
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(root)], check=True)
    return root


def timed(command: list[str], root: Path, url: str) -> float:
    """Run the command; return its seconds."""
    paths = os.pathsep.join([str(root / "src"), str(PROJECT / "src"), str(PROJECT)])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PYTHONPATH": paths, "PATH": path, "PREFECT_API_URL": url, "DVC_NO_ANALYTICS": "1"}
    began = time.monotonic()
    subprocess.run(command, cwd=root, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
