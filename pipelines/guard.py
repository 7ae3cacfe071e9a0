"""A small process between the flow and a stage, so that a stage never outlives its flow.

    python guard.py GRACE COMMAND...

It leads a session of its own, adopts what the stage orphans, and watches its standard input, a pipe held open
by the flow. When the pipe closes, because the flow cancelled the stage or was killed, the whole tree is
asked to stop, and after GRACE seconds it is killed. What a command leaves behind is killed, too. An open file
passed to the guard (a GPU slot's lock) is held for exactly as long. Run by path, not as a module: it imports
nothing of this package and starts in a few hundredths of a second.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import psutil

PR_SET_CHILD_SUBREAPER = 36


def main(grace: float, command: list[str]) -> int:
    """Run the command to its end or to that of the flow; return its exit status as a shell would."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: stop(child, grace))
    threading.Thread(target=watch, args=(child, grace), daemon=True).start()
    status = child.wait()
    kill_rest()
    return status if status >= 0 else 128 - status


def watch(child: subprocess.Popen[bytes], grace: float) -> None:
    """Wait until nobody holds the other end of standard input any more, then stop the stage."""
    while os.read(0, 1024):
        pass
    stop(child, grace)


def stop(child: subprocess.Popen[bytes], grace: float) -> None:
    """Ask the tree to stop, and kill what is left after the grace.

    The stage itself is terminated; DVC, which waits for it, sees its command fail and then gives its locks
    back. An interrupt is what DVC takes for the same wish when no command runs.
    """
    for process in tree():
        send(process, signal.SIGINT if process.pid == child.pid else signal.SIGTERM)
    until = time.monotonic() + grace
    while time.monotonic() < until and tree():
        time.sleep(0.05)
    kill_rest()


def kill_rest() -> None:
    """Kill every descendant, again and again until there is none: killing one may orphan another."""
    until = time.monotonic() + 2.0
    while (left := tree()) and time.monotonic() < until:
        for process in left:
            send(process, signal.SIGKILL)
        time.sleep(0.02)


def tree() -> list[psutil.Process]:
    """Return the descendants that are alive."""
    living = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
        except psutil.NoSuchProcess:
            continue
    return living


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone by now."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
