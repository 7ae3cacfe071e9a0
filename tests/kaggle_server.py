"""A loopback server in Kaggle's place, which the official package is pointed at; the tests say what it answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Answers:
    """Mixed into a request handler: it answers in JSON and logs nothing."""

    def send_json(self, status: int, body: dict[str, Any]) -> None:
        """Send a body with its status."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def package() -> Any:
    """The official package's addresses; skips the test where it is not installed."""
    return pytest.importorskip("kagglesdk.kaggle_env", reason="the extra `kaggle` is not installed")


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve on loopback as long as the block runs; yield the address."""
    environment = package()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.PROD, url)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield url
    server.shutdown()
    server.server_close()
