"""The flows: `compete` brings the pipeline up to date, `send` sends a finished run's submission to Kaggle.

python -m pipelines.flows [STAGE ...] [-S section.key=value] [--force]
"""

import errno
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Failed
from pydantic import Field

from goulot.errors import GoulotError
from pipelines import competition, forms
from pipelines.errors import RunStoppedError

Keep = Literal["with overrides", "always", "never"]
NOTHING = forms.Overrides()


@flow(name="compete", persist_result=False)
def compete(
    overrides: forms.Overrides = NOTHING,
    targets: list[str] = [],  # noqa: B006  Prefect copies it
    force: bool = False,
    keep: Keep = "with overrides",
    side_by_side: Annotated[int, Field(ge=0, le=64)] = 0,
) -> Any:
    """Bring the stages of dvc.yaml up to date, as `dvc repro` would.

    Args:
        overrides: Other params than those in params.yaml. The run then works in a workspace of its own.
        targets: The stages to bring up to date, with all they need. Empty means all.
        force: Run the stages even if they are up to date.
        keep: When to keep the run as a DVC experiment.
        side_by_side: Cores to fill with stages. A stage takes as many as it has threads. 0 means every core.
    """
    kept = {"with overrides": None, "always": True, "never": False}[keep]
    wish = competition.Wish(overrides.root, tuple(targets), force, kept, side_by_side)
    try:
        return competition.run(wish, get_run_logger())
    except RunStoppedError as error:
        return Cancelled(message=str(error))
    except GoulotError as error:
        return Failed(message=str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f" ({error.filename})" if error.filename else ""
        return Failed(message=f"{error.strerror}{place}; `goulot clean` frees some, then start the run again")


@flow(name="send", persist_result=False)
def send(run: str = "", message: str = "", competition_name: str = "") -> Any:
    """Send the submission of a finished run to Kaggle and show the competition's answer.

    Args:
        run: The run below runs/. Empty means the submission in data/submit.
        message: What the competition's list of submissions shows.
        competition_name: The competition's name in its address. Empty means that of params.yaml.
    """
    from goulot.commands import send as command

    log = get_run_logger()
    try:
        answer = command.run(run or None, message=message or None, competition=competition_name or None)
    except GoulotError as error:
        return Failed(message=str(error))
    for line in answer.lines():
        log.info("%s", line)
    create_table_artifact(key="sent", table=[answer.row()], description="What the competition answered")
    return answer.message


if __name__ == "__main__":
    from pipelines.command import main

    main()
