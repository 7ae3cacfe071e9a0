"""The process a stage runs in: the workspace's own code, and an allocator that keeps what it has been given."""

import os
import platform
import sys
from pathlib import Path

# With glibc's defaults a forward pass returns its buffers to the system and takes thousands of page faults an image
# to get them back: measured on two cores, 2.1 times slower. The settings are read when a process starts.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
# GNU OpenMP's threads wait for each other in a loop for milliseconds. Beside any other work on the machine that halves
# the speed and worse; a short wait costs next to nothing where there is none.
OPENMP = {"GOMP_SPINCOUNT": "1000"}
# A GPU's streams share 8 queues unless told otherwise, which may be why its JPEG decoder waits for forward passes.
CUDA = {"CUDA_DEVICE_MAX_CONNECTIONS": "32"}
SETTINGS = {**ALLOCATOR, **OPENMP, **CUDA}


def main() -> None:
    """Start anew with the right environment where it differs, then run the command line."""
    if os.environ.get("GOULOT_STARTED") != str(Path.cwd()) and (changes := _environment()):
        os.environ.update(changes, GOULOT_STARTED=str(Path.cwd()))
        os.execv(sys.executable, [sys.executable, "-m", "goulot", *sys.argv[1:]])
    from goulot.cli import run

    run()


def _environment() -> dict[str, str]:
    changes = {}
    own = Path.cwd() / "src" / "goulot"
    if (own / "__main__.py").is_file() and own.resolve() != Path(__file__).resolve().parent:
        # An isolated run (dvc exp run --temp, a worktree) must not run the code of the checkout that was installed.
        changes["PYTHONPATH"] = os.pathsep.join(filter(None, [str(own.parent), os.environ.get("PYTHONPATH")]))
    if (
        sys.argv[1:2] in (["extract"], ["learn"], ["finetune"], ["prune"], ["rank"], ["plan"])
        and platform.libc_ver()[0] == "glibc"
    ):
        changes.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    return changes


if __name__ == "__main__":
    main()
