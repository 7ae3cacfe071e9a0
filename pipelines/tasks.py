"""One Prefect task per stage, named as the stage."""

from collections.abc import Callable, Mapping
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, PrefectTaskRunFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed

from pipelines import publish, session
from pipelines.errors import RunStoppedError, StageFailedError, StageKilledError
from pipelines.graph import Graph, Stage

NOT_RUN = "NotRun"
SHOWN = {"skipped": "Skipped", "restored": "Restored", "completed": "Completed"}
SAID = {"skipped": "up to date", "restored": "restored from DVC's run cache", "completed": "ran"}


@task(cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, run: str) -> State[Any]:
    """Bring one stage up to date by DVC. The state's name tells how: Skipped, Restored or Completed."""
    log = get_run_logger()
    here = session.of(run)
    if lacking := [need for need in here.graph.stages[stage].needs if need not in here.done]:
        return Cancelled(name=NOT_RUN, message=f"it needs {', '.join(lacking)}")
    if (reason := here.why_stale(stage)) is None:
        how = "skipped"
    else:
        log.info("to be run: %s", reason)
        try:
            how = here.reproduce(stage, log.info)
        except RunStoppedError as error:
            return Cancelled(message=str(error))
        except (StageFailedError, StageKilledError) as error:
            raise type(error)(f"{error}\nto run it alone: {here.alone(stage)}") from None
    here.done[stage] = how
    publish.stage_metrics(here.root, here.graph, stage)
    return Completed(name=SHOWN[how], message=SAID[how])


class _Over(PrefectTaskRunFuture[Any]):
    """What a stage needs, of which Prefect is only told that it is over; the stage's task looks what became of it.

    Prefect itself would leave a task whose needs failed in the state NotReady, which is not final: the page draws a bar
    that grows for ever.
    """

    def __init__(self, future: PrefectFuture[Any]) -> None:
        super().__init__(future.task_run_id)
        self._future = future

    def wait(self, timeout: float | None = None) -> None:
        self._future.wait(timeout)

    @property
    def state(self) -> State[Any]:
        return Completed(data=True)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> None:
        self.wait(timeout)

    def add_done_callback(self, fn: Callable[[PrefectFuture[Any]], None]) -> None:
        self._future.add_done_callback(fn)


def submit_all(graph: Graph, run: str) -> Mapping[str, PrefectFuture[Any]]:
    """Submit a task for every stage, each waiting for those it needs: the page shows the graph at once."""
    futures: dict[str, PrefectFuture[Any]] = {}
    for name, stage in graph.stages.items():
        needs = [_Over(futures[need]) for need in stage.needs]
        futures[name] = _task_of(stage).submit(name, run, wait_for=needs)
    return futures


def _task_of(stage: Stage) -> Task[Any, Any]:
    def try_again(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
        """Retry what was killed, and what failed if the stage's `meta` says so."""
        killed, failed = isinstance(state.data, StageKilledError), isinstance(state.data, StageFailedError)
        return killed or (failed and stage.retries is not None)

    return run_stage.with_options(
        name=stage.name,
        task_run_name=stage.name,
        # Without a word in `meta` a stage that was killed is given one more try.
        retries=1 if stage.retries is None else stage.retries,
        retry_condition_fn=try_again,
    )
