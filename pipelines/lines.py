"""What a terminal program writes, as plain lines: no colours, and of a progress bar now and then a state."""

import codecs
import re
import time
from collections.abc import Callable, Iterator

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
BAR = re.compile(r"\|[\s#█▉▊▋▌▍▎▏]*\|")


class Lines:
    """Cuts a stream of bytes into lines.

    What a carriage return overwrites is dropped, except that every `every` seconds the state of the moment is
    passed on, so that a long stage does not look dead.
    """

    def __init__(self, every: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._every = every
        self._clock = clock
        self._last = clock()
        self._rest = ""

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the lines that these bytes complete."""
        *whole, rest = (self._rest + self._decode.decode(data)).replace("\r\n", "\n").split("\n")
        for line in whole:
            yield from self._spoken(line)
        if "\r" in rest and self._clock() - self._last >= self._every:
            yield from self._spoken(rest)
        # Only the last state can still matter; a bar must not grow without bound.
        ends = rest.endswith("\r")
        self._rest = rest.rstrip("\r").rsplit("\r", 1)[-1] + ("\r" if ends else "") if "\r" in rest else rest

    def end(self) -> Iterator[str]:
        """Yield what is left when the stream is closed."""
        yield from self._spoken(self._rest + self._decode.decode(b"", final=True))
        self._rest = ""

    def _spoken(self, raw: str) -> Iterator[str]:
        states = [plain(state) for state in raw.split("\r")]
        text = next((state for state in reversed(states) if state), None)
        if text:
            self._last = self._clock()
            yield text


def plain(text: str) -> str:
    """Return the text without terminal escapes and without the drawn part of a bar."""
    return BAR.sub("", ESCAPES.sub("", text)).rstrip()
