"""A read-only file server on the loopback address, so that the page's links to reports and submissions open.

A browser does not follow a link from a page to a `file:` address. Only results are served, nothing else of
the checkout, and only to callers that name this machine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from goulot import layout
from pipelines.session import RUNS

SERVED = (RUNS, layout.SUBMIT.as_posix(), layout.REPORT.as_posix())


class Handler(SimpleHTTPRequestHandler):
    """Serves what lies in the folders of results."""

    def send_head(self):  # type: ignore[no-untyped-def]
        """Refuse what is outside, and what another site's page asks for in its own name."""
        if self.headers.get("Host", "").rpartition(":")[0] not in ("127.0.0.1", "localhost"):
            return self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
        path = PurePosixPath(unquote(urlsplit(self.path).path).lstrip("/"))
        if ".." in path.parts or not any(path.is_relative_to(folder) for folder in SERVED):
            return self.send_error(HTTPStatus.NOT_FOUND, f"only {', '.join(SERVED)} are served")
        return super().send_head()

    def log_message(self, *_: object) -> None:
        """Keep the terminal for what matters."""


@contextmanager
def served(root: Path, port: int) -> Iterator[str]:
    """Serve the results of a checkout, at this port if it is free; yield the address."""
    handler = partial(Handler, directory=str(root))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
