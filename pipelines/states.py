"""What the server says of a run: a wish to cancel it, and a death that it has not noticed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment, flow_run
from prefect.states import Crashed

from pipelines.runner import Stop

LOOK_S = 1.0
DIED = "The process of the run is gone: it was killed, or its machine went down."


@contextmanager
def cancellable(stop: Stop) -> Iterator[None]:
    """Set `stop` when the run is cancelled on the page.

    A run of a deployment is ended by the process that started it. One from a terminal has nobody to do so.
    """
    if deployment.id or not flow_run.id:
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=copy_context().run, args=(_watch, UUID(flow_run.id), stop, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()


def _watch(run_id: UUID, stop: Stop, over: threading.Event) -> None:
    with get_client(sync_client=True) as client:
        while not over.wait(LOOK_S):
            try:
                state = client.read_flow_run(run_id).state
            except HTTPError:
                continue
            if state is not None and (state.is_cancelling() or state.is_cancelled()):
                stop.set()
                return


def mark_crashed(run_id: str) -> bool:
    """Tell the server that a run and its tasks are dead; return whether it took them for alive."""
    try:
        with get_client(sync_client=True) as client:
            return _mark_crashed(client, UUID(run_id))
    except (ValueError, HTTPError, ObjectNotFound):
        # Another server's run, or one that was deleted: there is nothing to put right.
        return False


def _mark_crashed(client: SyncPrefectClient, run_id: UUID) -> bool:
    run = client.read_flow_run(run_id)
    wrong = run.state is None or not run.state.is_final()
    if wrong:
        client.set_flow_run_state(run_id, Crashed(message=DIED), force=True)
    for task in client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))):
        if task.state is None or not task.state.is_final():
            client.set_task_run_state(task.id, Crashed(message=DIED), force=True)
    return wrong
