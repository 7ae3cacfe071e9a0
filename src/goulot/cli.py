"""The command line: one subcommand a stage, and what is no stage."""

import importlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from goulot import progress
from goulot.errors import GoulotError

STAGES = {
    "fetch": "Bring the competition's files to data/raw.",
    "ingest": "Check the images, read the labels, pack the good images into shards.",
    "augment": "Plan the augmented views of each image.",
    "audit": "Find duplicates and near-duplicates over train and test.",
    "split": "Deal the training images into folds.",
    "rank": "Probe which backbone and depth transfers best; choose what is stacked.",
    "blend": "Blend the learners, scored by nested cross-validation.",
    "review": "List the training labels that the out-of-fold predictions doubt.",
    "submit": "Write the submission as sample_submission.csv wants it.",
    "report": "Write the page that a person reads first.",
}
FAMILIES = {
    "extract": ("BACKBONE", "Compute a backbone's bottleneck features."),
    "learn": ("LEARNER", "Cross-fit a learner on the stacked features."),
    "finetune": ("NETWORK", "Train a network's last blocks on its kept maps, cross-fitted."),
    "prune": ("NETWORK", "Take the channels out of a network that the task's images do not need."),
}

log = logging.getLogger("goulot")
app = typer.Typer(
    help="From labelled images to a scored submission. `dvc repro` runs all stages; each runs alone as well.",
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip


@app.callback()
def options(debug: Annotated[bool, typer.Option(help="show the traceback of an error")] = False) -> None:
    """Set up logging for the command that follows."""
    progress.show(logging.DEBUG if debug else logging.INFO)


def run() -> None:
    """Entry point: a GoulotError is one line and exit code 1."""
    try:
        app(standalone_mode=True, prog_name="goulot")  # by which the shell asks for completion, however it was started
    except GoulotError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"goulot: {error}", err=True)
        sys.exit(1)


def run_stage(stage: str, *names: str) -> None:
    """Run a stage on its section of params.yaml; note its seconds, memory and settings for the report."""
    from goulot import layout, params
    from goulot.artifacts import write_json
    from goulot.progress import peak_bytes

    module = importlib.import_module(f"goulot.stages.{stage}")
    start = time.monotonic()
    settings = params.load(stage, module.Params)
    module.run(settings, *names)
    differs = settings.model_dump(mode="json", exclude_defaults=True)
    note = {"seconds": time.monotonic() - start, "peak_bytes": peak_bytes()}
    write_json(layout.times("@".join([stage, *names])), {**note, "given": params.read()[stage], "differs": differs})


def _stage(name: str) -> Callable[[], None]:
    return lambda: run_stage(name)


def _names(section: str, family: str) -> Callable[[], list[str]]:
    """What the shell offers: the names that params.yaml gives."""

    def offered() -> list[str]:
        from goulot.params import members

        try:
            return members(section, family, least=0)
        except GoulotError:
            return []

    return offered


def _family(stage: str, kind: str) -> Callable[[str], None]:
    offered = _names(stage, f"{kind.lower()}s")

    def command(name: Annotated[str, typer.Argument(metavar=kind, autocompletion=offered)]) -> None:
        run_stage(stage, name)

    return command


for _name, _help in STAGES.items():
    app.command(_name, help=_help)(_stage(_name))
for _name, (_kind, _help) in FAMILIES.items():
    app.command(_name, help=_help)(_family(_name, _kind))


@app.command(help="Look at a data set and write its layout into params.yaml.")
def init(
    source: Annotated[
        str, typer.Option("--from", help="path:<folder or archive>, kaggle:<competition> or sample:<name>")
    ],
    metric: Annotated[str | None, typer.Option(help="what the competition scores by")] = None,
    table: Annotated[str | None, typer.Option(help="the table of the training images")] = None,
    label: Annotated[list[str] | None, typer.Option(help="its column of labels; again for each of several")] = None,
    image: Annotated[str | None, typer.Option(help="the training images' pattern, e.g. train/{id}.jpg")] = None,
    no_test: Annotated[bool, typer.Option("--no-test", help="there are no test images")] = False,
) -> None:
    """Work the layout out, say what was found, write it."""
    from goulot.commands.init import run as run_init
    from goulot.discovery import Given

    for line in run_init(source, metric=metric, given=Given(table, tuple(label or ()), image, no_test)):
        typer.echo(line)


@app.command(help="Show the depths of a network and what each costs.")
def describe(
    backbone: Annotated[
        str,
        typer.Argument(
            help="a name below extract.backbones, or any network's", autocompletion=_names("extract", "backbones")
        ),
    ],
    input_size: Annotated[
        int | None, typer.Option(help="side in pixels; else as in params.yaml, or the weights' own", min=32)
    ] = None,
) -> None:
    """Print a line a depth."""
    from goulot.commands.describe import run as run_describe

    run_describe(backbone, input_size=input_size)


weights = typer.Typer(help="The networks' ImageNet weights.", no_args_is_help=True)
app.add_typer(weights, name="weights")


@weights.command(help="Bring the weights of all networks that params.yaml names, and print their licences.")
def fetch() -> None:
    """Print a line a network; exit with 1 where one could not be had."""
    from goulot.commands.weights import run as run_fetch

    run_fetch()


@app.command(help="Say whether this machine and checkout are ready for a run, and what to do where they are not.")
def doctor() -> None:
    """Print a line for each thing looked at; exit with 1 where something must be put right."""
    from goulot.commands.doctor import run as run_doctor

    run_doctor()


@app.command(help="Say what each stage will take on this machine, from a short trial, and what fits a deadline.")
def plan(
    deadline: Annotated[str | None, typer.Option(help="time for the whole run, e.g. 2h, 90m or 1h30m")] = None,
    disk: Annotated[str | None, typer.Option(help="room for all that it writes, e.g. 5GB")] = None,
) -> None:
    """Print a line a stage; exit with 1 where nothing fits."""
    from goulot.commands.plan import run as run_plan

    run_plan(deadline=deadline, disk=disk)


@app.command(help="Set how much a run does: quick, default or gpu.")
def preset(
    name: Annotated[
        str, typer.Argument(help="quick, default or gpu", autocompletion=lambda: ["quick", "default", "gpu"])
    ],
) -> None:
    """Print a line for each setting that changed."""
    from goulot.commands.preset import run as run_preset

    for line in run_preset(name):
        typer.echo(line)


@app.command(help="Leave training images out: their ids go to ingest.drop in params.yaml.")
def drop(
    ids: Annotated[
        list[str] | None, typer.Argument(help="as doubts.csv has them, e.g. train/x17", metavar="ID...")
    ] = None,
    doubted: Annotated[bool, typer.Option("--doubted", help="all that `review` doubts")] = False,
) -> None:
    """Say how many are left out now."""
    from goulot.commands.drop import run as run_drop

    typer.echo(run_drop(ids or [], doubted=doubted))


@app.command(help="Score a submission by a solution file, or by the hidden answers of a bundled sample.")
def score(
    submission: Annotated[Path, typer.Argument(help="the CSV to score")] = Path("data/submit/submission.csv"),
    solution: Annotated[Path | None, typer.Option(help="a CSV with the submission's columns and the truth")] = None,
) -> None:
    """Print the scores of a submission."""
    from goulot.commands.score import run as run_score

    run_score(submission, solution)


@app.command("check-submission", help="Say what is wrong with a submission, row by row.")
def check_submission(
    submission: Annotated[Path, typer.Argument(help="the CSV to check")] = Path("data/submit/submission.csv"),
    limit: Annotated[int, typer.Option(help="faults shown")] = 50,
) -> None:
    """Print a line for each fault; exit with 1 where there is one."""
    from goulot.commands.check_submission import run as run_check

    for line in run_check(submission, limit=limit):
        typer.echo(line)


@app.command(help="Show finished runs side by side: git revisions, branches or DVC experiments.")
def compare(
    revisions: Annotated[list[str], typer.Argument(help="two or more, or one beside `workspace`", metavar="REV...")],
    rows: Annotated[int, typer.Option(help="images shown", min=0)] = 10,
    csv: Annotated[Path | None, typer.Option(help="write all images there")] = None,
) -> None:
    """Print the settings that differ, the scores, and the images that are judged most differently."""
    from rich.console import Console

    from goulot.commands.compare import run as run_compare

    for table in run_compare(revisions, rows=rows, csv=csv):
        Console().print(table)


@app.command(help="Remove old runs and stored features that nothing uses, after asking.")
def clean(
    keep: Annotated[int, typer.Option(help="newest runs that stay")] = 10,
    unused_days: Annotated[float, typer.Option(help="days after which unused features go")] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """List what can go with its size, ask, remove it."""
    from goulot.commands.clean import run as run_clean

    run_clean(keep=keep, unused_days=unused_days, yes=yes, ask=typer.confirm)


@app.command(help="Send a submission to Kaggle (needs the extra `kaggle`).")
def send(
    run: Annotated[str | None, typer.Option("--run", help="a run in runs/; else data/submit")] = None,
    message: Annotated[str | None, typer.Option(help="what Kaggle shows beside it")] = None,
    competition: Annotated[str | None, typer.Option(help="the competition's name in its address")] = None,
) -> None:
    """Send it and show the competition's answer."""
    from goulot.commands.send import run as run_send

    for line in run_send(run, message=message, competition=competition).lines():
        typer.echo(line)
