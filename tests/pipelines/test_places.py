"""Stages of several threads take several places, in the order in which they asked."""

import threading
import time

import pytest
from toy import wait_until

from pipelines.errors import RunStoppedError
from pipelines.places import Places


def never() -> bool:
    return False


def test_a_stage_of_many_threads_runs_alone_and_is_not_passed() -> None:
    places, order, said = Places(2), [], []
    first_may_end = threading.Event()

    def hold(name: str, wanted: int, until: threading.Event | None = None) -> None:
        with places.held(wanted, never, said.append):
            order.append(name)
            if until:
                until.wait(10)

    threads = [threading.Thread(target=hold, args=("small", 1, first_may_end))]
    threads[0].start()
    wait_until(lambda: order == ["small"], 10)
    for name, wanted, waiting in (("greedy", 64, 1), ("late", 1, 2)):
        threads.append(threading.Thread(target=hold, args=(name, wanted)))
        threads[-1].start()
        wait_until(lambda waiting=waiting: len(said) == waiting, 10)
    time.sleep(0.1)
    assert order == ["small"]
    first_may_end.set()
    for thread in threads:
        thread.join(10)
    assert order == ["small", "greedy", "late"]
    assert said == ["waiting for 2 free places", "waiting for a free place"]


def test_who_waits_leaves_the_queue_when_the_run_ends() -> None:
    places = Places(1)
    with places.held(1, never, print), pytest.raises(RunStoppedError), places.held(1, lambda: True, print):
        pass
    with places.held(1, never, pytest.fail):
        pass
