"""One run of the pipeline, from the wish to the results; called by the flow `compete`."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any

from dvc.utils.serialize import load_yaml
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from goulot import layout
from pipelines import command, experiment, forms, graph, heir, locks, presence, publish, states, tasks, workspace
from pipelines import session as sessions
from pipelines.session import Session
from pipelines.workspace import Workspace

Log = Logger | LoggerAdapter[Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run is to do. `keep` is None for "as an experiment if there are overrides"."""

    overrides: Mapping[str, Any]
    targets: tuple[str, ...] = ()
    force: bool = False
    keep: bool | None = None
    side_by_side: int = 0


def run(wish: Wish, log: Log) -> State[Any]:
    """Bring the targets up to date, in place or, with overrides, in a workspace of the run's own."""
    started = time.monotonic()
    main = graph.find_root()
    params = load_yaml(main / layout.PARAMS) if wish.overrides else {}
    forms.check(params, wish.overrides)
    names = experiment.free_names(main, publish.key(str(flow_run.name or "run")) or "run")
    with (
        presence.announced(main, names, str(flow_run.id)) as name,
        heir.waiting(main),
        sessions.opened(main, name, side_by_side=wish.side_by_side, force=wish.force) as here,
        states.cancellable(here.stop),
        ExitStack() as held,
    ):
        tidy(main, log.info)
        apart = None
        if wish.overrides:
            apart = held.enter_context(workspace.isolated(here, wish.overrides, log.info))
            spelled = " ".join(f"-S {shlex.quote(item)}" for item in command.spelled(wish.overrides))
            here.alone = lambda stage: f"python -m pipelines.flows {stage} {spelled}"
        else:
            held.enter_context(_alone_in(here, log))
        if ended := _stages(here, wish, log):
            return ended
        results = _results(here, apart, wish)
        publish.leaderboard(here.root)
        publish.plots(here.root, here.graph)
        publish.links(main, results)
        log.info("%s", publish.summary(main, results, here.done, time.monotonic() - started))
        return Completed(message=_in_short(here.done))


def tidy(main: Path, say: Callable[[str], None]) -> None:
    """Put right what runs left whose process is gone: what the server shows of them, and their workspaces."""
    for name, run_id in presence.gone(main):
        if states.mark_crashed(run_id):
            say(f"the run {name} was still shown as running; its process is gone")
    for name in workspace.sweep(main):
        say(f"swept the workspace of the run {name}, whose process is gone")


@contextmanager
def _alone_in(here: Session, log: Log) -> Iterator[None]:
    """Hold the checkout for one run in place at a time; runs with overrides do not need it."""
    lock = locks.FileLock(here.main / sessions.STATE / "run.lock")
    lock.wait(here.stop.wished, lambda: log.info("waiting for the run that works in this checkout"))
    try:
        yield
    finally:
        lock.release()


def _stages(here: Session, wish: Wish, log: Log) -> State[Any] | None:
    """Run the stages; return the run's state if they did not all go well."""
    for line in locks.clear_stale(here.root):
        log.info("%s", line)
    here.graph = graph.read(here.root, wish.targets)
    futures = tasks.submit_all(here.graph, here.name)
    try:
        for future in futures.values():
            future.wait()
    except BaseException:
        # A cancelled run's stages hold locks that are wanted below.
        here.stop.set()
        raise
    finally:
        graph.settle_lock_order(here.graph)
    if here.stop.wished():
        return Cancelled(message=f"cancelled; done until then: {_in_short(here.done) or 'nothing'}")
    ended = {name: future.state for name, future in futures.items()}
    failed = {name: state for name, state in ended.items() if state.is_failed() or state.is_crashed()}
    if not failed:
        return None
    message = _failure(failed, [name for name, state in ended.items() if state.name == tasks.NOT_RUN])
    log.error("%s", message)
    return Failed(message=message)


def _failure(failed: Mapping[str, State[Any]], not_run: list[str]) -> str:
    told = "\n".join(str(state.message).partition("exception ")[2] or str(state.message) for state in failed.values())
    rest = f"\nnot run, as they need it: {', '.join(not_run)}" if not_run else ""
    return f"{', '.join(failed)} failed\n{told}{rest}"


def _results(here: Session, apart: Workspace | None, wish: Wish) -> publish.Results:
    kept = None
    if wish.keep if wish.keep is not None else apart is not None:
        kept = experiment.save(here.root, here.name)
    outs = {"submission": layout.SUBMISSION.as_posix(), "report": layout.REPORT.as_posix()}
    if apart is None:
        found = {name: here.main / path for name, path in outs.items() if (here.main / path).exists()}
    else:
        about = {"run": here.name, "experiment": kept, "commit": apart.commit, "overrides": wish.overrides}
        found = workspace.bring_back(apart, outs, about)
    report = found.get("report")
    page = report / layout.REPORT_PAGE.name if report else None
    return publish.Results(found.get("submission"), page if page and page.exists() else report, kept)


def _in_short(done: Mapping[str, str]) -> str:
    counts = ((how, list(done.values()).count(how)) for how in ("completed", "restored", "skipped"))
    return ", ".join(f"{count} {how}" for how, count in counts if count)
