"""`goulot plan` measures on cuts, scales to all images, and keeps what fits."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from goulot import cli
from goulot.commands import plan as plan_command
from goulot.errors import GoulotError
from goulot.planning import estimate
from goulot.planning.estimate import Cost
from goulot.planning.keep import Plan
from goulot.planning.trial import Run
from tests.tiny import Workspace


def runs(seconds: Callable[[int, int], float], **others: int) -> list[Run]:
    """Of a stage that takes so long for so many images and epochs."""
    held = {"peak_bytes": 10, "disk_bytes": 0, **others}
    return [Run(n, e, seconds(n, e), **held) for n, e in ((40, 1), (80, 1), (160, 1), (160, 2))]


@pytest.mark.parametrize("power", [1, 2])
def test_a_stage_s_time_is_not_that_of_its_cuts_scaled(power: int) -> None:
    found = estimate.cost("learn@svm", runs(lambda n, _: 3 + 0.01 * n**power), 4000, power=power, by_view=True)
    assert found.seconds == pytest.approx(3 + 0.01 * 4000**power)
    assert found.with_views(0.5) == pytest.approx(3 + 0.01 * 2000**power)


def test_epochs_beyond_the_trial_s_take_nothing() -> None:
    found = estimate.cost("finetune@lite0", runs(lambda n, e: 5 + n * (0.1 + 0.02 * e)), 1000, epochs=15)
    assert found.seconds == pytest.approx(5 + 1000 * (0.1 + 0.02 * 15))
    assert found.with_views(0.5) == found.seconds
    assert estimate.cost("finetune@lite0", runs(lambda n, e: n * e), 1000, epochs=0).seconds == pytest.approx(1000)


def test_noise_of_the_clock_makes_a_stage_take_less_than_nothing() -> None:
    found = estimate.cost("split", runs(lambda n, _: 1 - 0.001 * n), 100_000)
    assert 0 <= found.seconds <= 1


def test_the_memory_of_what_holds_all_features_does_not_grow() -> None:
    cuts = [Run(n, 1, 1.0, 100 + n, 2 * n) for n in (40, 80, 160, 160)]
    assert estimate.cost("learn@mlp", cuts, 1000).peak_bytes == 1100
    assert estimate.cost("extract@lite0", cuts, 1000).peak_bytes == 260
    assert estimate.cost("extract@lite0", cuts, 1000).disk_bytes == 2000


def plan() -> Plan:
    """Three networks of which the worst is needed, and a fine-tuned one."""
    costs = [
        Cost("extract@best", 100, 100, 1, 400), Cost("extract@good", 100, 100, 1, 400),
        Cost("extract@needed", 100, 100, 1, 400), Cost("learn@svm", 50, 40, 1, 10),
        Cost("finetune@end", 300, 0, 1, 10),
    ]  # fmt: skip
    return Plan(costs, ["best", "good", "needed"], frozenset({"needed"}), frozenset({"good"}), 3,
                {"best": (("s5",), 200.0)})  # fmt: skip


def test_what_fits_as_it_is_is_made_smaller() -> None:
    assert plan().best(seconds=650, disk_bytes=1220) == plan().all()


@pytest.mark.parametrize(
    ("seconds", "backbones", "views", "finetune"),
    [
        (600, ("best", "good", "needed"), 2, True),
        (500, ("best", "good", "needed"), 1, True),
        (460, ("good", "needed"), 1, True),
        (340, ("best", "good", "needed"), 2, False),
        (150, ("best", "needed"), 1, False),
        (45, ("needed",), 0, False),
    ],
)
def test_the_strongest_part_is_given_up_first(
    seconds: float, backbones: tuple[str, ...], views: int, finetune: bool
) -> None:
    found = plan().best(seconds=seconds, disk_bytes=float("inf"))
    assert found is not None
    assert (found.backbones, found.views, found.finetune, found.taps) == (backbones, views, finetune, {})
    assert plan().seconds(found) <= seconds


def test_depths_that_nothing_stacks_stay_on_a_full_disk() -> None:
    found = plan().best(seconds=float("inf"), disk_bytes=1100)
    assert found is not None
    assert found.taps == {"best": ("s5",)}
    assert len(found.backbones) == 3
    assert plan().best(seconds=1, disk_bytes=1) is None


@pytest.mark.parametrize(
    "option", [["--deadline", "soon"], ["--deadline", "-2h"], ["--deadline", "7200"], ["--disk", "much"]]
)
def test_a_limit_that_is_none_is_taken(workspace: Workspace, option: list[str]) -> None:
    error = CliRunner().invoke(cli.app, ["plan", *option]).exception
    assert isinstance(error, GoulotError)
    assert f"{option[0]} is '{option[1]}'; it is a " in str(error)


def test_images_that_were_not_read_are_a_traceback(workspace: Workspace) -> None:
    error = CliRunner().invoke(cli.app, ["plan"]).exception
    assert isinstance(error, GoulotError)
    assert "dvc repro ingest" in str(error)


def test_a_network_is_given_up_that_something_else_names(ready: Workspace) -> None:
    network = ready.params["extract"]["backbones"]["tiny"]
    ready.params["extract"]["backbones"] = dict.fromkeys(("tiny", "lenet5", "wide", "hand", "spare"), network)
    ready.params["learn"]["learners"]["scratch"] = {"kind": "lenet5"}  # whose network has that name by default
    ready.params["prune"] = {"networks": {"slim": {"backbone": "wide"}}}
    ready.params["rank"] = {"columns": ["hand/s2.avg"]}
    ready.write()
    assert plan_command.needed() == {"tiny", "lenet5", "wide", "hand"}


@pytest.mark.slow
def test_a_trial_leaves_a_trace_or_a_stage_out(ready: Workspace) -> None:
    ready.params["extract"]["backbones"]["tiny"]["maps"] = ["s2"]
    ready.set("finetune.networks", {"end": {"backbone": "tiny", "tap": "s2", "epochs": 3}})
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    done = CliRunner().invoke(cli.app, ["plan", "--deadline", "8h"], env={"COLUMNS": "160"})
    assert done.exception is None, done.output
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before
    for stage in ("augment", "extract@tiny", "audit", "split", "rank", "learn@lightgbm", "finetune@end", "blend",
                  "review", "submit", "report"):  # fmt: skip
        assert stage in done.output
    assert "All of it fits 8h." in done.output
    done = CliRunner().invoke(cli.app, ["plan", "--deadline", "1s"])
    assert "nothing fits 1s: the least, tiny, " in str(done.exception)
