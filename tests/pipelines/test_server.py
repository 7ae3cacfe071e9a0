"""The server does not refuse what can be tried again."""

import asyncio
import threading
from typing import Any

import pytest
from toy import Api

from pipelines import flows
from pipelines.server import Message, TryAgain


def test_no_click_is_refused_while_others_write(api: Api) -> None:
    """Prefect's own server refuses more than a third of these: it reads before it writes, in one transaction."""
    flow = api.call("/flows/", {"name": "compete"})
    schema = flows.compete.parameters.model_dump(mode="json")
    wish = {"name": "busy", "flow_id": flow["id"], "parameter_openapi_schema": schema, "enforce_parameter_schema": True}
    deployment = api.call("/deployments/", wish)["id"]
    line = {"name": "a", "level": 20, "message": "hello", "timestamp": "2026-01-01T00:00:00Z"}
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.03):
            api.call("/logs/", [line] * 5)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        parameters = {"overrides": {"augment": {"views": 5}}}
        made = [api.call(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters}) for _ in range(20)]
    finally:
        over.set()
        for writer in writers:
            writer.join()
    assert len({run["id"] for run in made}) == 20


@pytest.mark.parametrize(("refusals", "status"), [(0, 200), (2, 200), (9, 503)])
def test_a_request_is_made_again_with_its_whole_body_until_it_is_taken(refusals: int, status: int) -> None:
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        bodies.append(message["body"])
        refused = len(bodies) <= refusals
        await send({"type": "http.response.start", "status": 503 if refused else 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})
        if refused:
            raise RuntimeError("as Starlette does")

    sent = asyncio.run(_post(TryAgain(app, waits_s=(0.0, 0.0, 0.0))))
    assert [message.get("status", message.get("body")) for message in sent] == [status, b"answer"]
    assert bodies == [b"one two"] * (min(refusals, 3) + 1)


async def _post(app: TryAgain) -> list[Message]:
    parts = iter([b"one ", b"two"])
    sent: list[Message] = []

    async def receive() -> Message:
        part = next(parts)
        return {"type": "http.request", "body": part, "more_body": part == b"one "}

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await app({"type": "http", "method": "POST"}, receive, send)
    except RuntimeError:
        sent.append({"type": "raised"})
    return [message for message in sent if message["type"] != "raised"]
