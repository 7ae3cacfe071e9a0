"""The places of a run: as many as stages may keep cores busy, dealt out in the order in which they are asked for."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.errors import RunStoppedError
from pipelines.locks import POLL_S


class Places:
    """A counter of free places. A stage of several threads takes several, all at once, or it would wait half seated.

    Whoever came first is served first: a stage that wants every place must not be passed by all the small ones.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def held(self, wanted: int, stopped: Callable[[], bool], say: Callable[[str], None]) -> Iterator[None]:
        """Hold so many places, all there are if more are wanted. Raises RunStoppedError if the run ends meanwhile."""
        number = min(wanted, self.count)
        self._take(number, stopped, say)
        try:
            yield
        finally:
            with self._changed:
                self._free += number
                self._changed.notify_all()

    def _take(self, number: int, stopped: Callable[[], bool], say: Callable[[str], None]) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                if not self._my_turn(ticket, number):
                    say(f"waiting for {'a free place' if number == 1 else f'{number} free places'}")
                while not self._my_turn(ticket, number):
                    if stopped():
                        raise RunStoppedError("stopped while waiting for a free place")
                    self._changed.wait(POLL_S)
                self._free -= number
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _my_turn(self, ticket: object, number: int) -> bool:
        return self._queue[0] is ticket and self._free >= number
