"""One Prefect task per stage, named as the stage."""

from collections.abc import Mapping
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed

from pipelines import publish, session
from pipelines.errors import RunStoppedError, StageFailedError, StageKilledError
from pipelines.graph import Graph, Stage

SHOWN = {"skipped": "Skipped", "restored": "Restored", "completed": "Completed"}
SAID = {"skipped": "up to date", "restored": "restored from DVC's run cache", "completed": "ran"}


@task(cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, run: str) -> State[Any]:
    """Bring one stage up to date by DVC. The state's name tells how: Skipped, Restored or Completed."""
    log = get_run_logger()
    here = session.of(run)
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


def submit_all(graph: Graph, run: str) -> Mapping[str, PrefectFuture[Any]]:
    """Submit a task for every stage, each waiting for those it needs: the page shows the graph at once."""
    futures: dict[str, PrefectFuture[Any]] = {}
    for name, stage in graph.stages.items():
        needs = [futures[need] for need in stage.needs if need in futures]
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
