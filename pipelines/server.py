"""Prefect's server, one that does not refuse a click because its SQLite file is busy.

    python server.py PORT

Prefect reads before it writes in one transaction. If another one has written in between, SQLite cannot let the first
go on, however long it waits: the request is rolled back and answered with 503. Prefect's Python client then asks
again; its page shows "Something went wrong". Here requests that may write take turns, as SQLite would have them do in
any case, and what the server's own services still get in the way of is tried again before it is answered.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

BUSY = 503
READING = ("GET", "HEAD", "OPTIONS")
WAITS_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


class TryAgain:
    """ASGI middleware: requests that may write take turns; one answered with 503 is made again, in the end for good."""

    def __init__(self, app: App, waits_s: tuple[float, ...] = WAITS_S) -> None:
        self.app = app
        self.waits_s = waits_s
        self.turn = asyncio.Lock()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] in READING:
            return await self.app(scope, receive, send)
        body = await _whole(receive)
        async with self.turn:
            for wait_s in self.waits_s:
                if not await self._refused(scope, body, receive, send):
                    return None
                await asyncio.sleep(wait_s)
            return await self.app(scope, _replayed(body, receive), send)

    async def _refused(self, scope: MutableMapping[str, Any], body: Message, receive: Receive, send: Send) -> bool:
        """Make the request; pass the answer on unless it is 503, and tell whether it was."""
        refused = False

        async def unless_busy(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = message["status"] == BUSY
            if not refused:
                await send(message)

        try:
            # The application writes into the scope; each try is given its own.
            await self.app(dict(scope), _replayed(body, receive), unless_busy)
        except Exception:
            # Starlette answers first and then raises, for the server's log.
            if not refused:
                raise
        return refused


async def _whole(receive: Receive) -> Message:
    """Return the request's body as one message, or the message that says that the caller has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return {"type": "http.request", "body": b"".join(parts), "more_body": False}


def _replayed(body: Message, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return body

    return replay


def main(port: int) -> None:
    """Serve on the loopback address until told to stop."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    level = get_current_settings().server.logging_level.lower()
    uvicorn.run(TryAgain(create_app(final=True)), host="127.0.0.1", port=port, log_level=level)


if __name__ == "__main__":
    main(int(sys.argv[1]))
