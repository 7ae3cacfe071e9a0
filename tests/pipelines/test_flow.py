"""A flow run does what `dvc repro` does, and says how, on a real server."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import toy as toys
from toy import STAGES, Api, Toy, alive, wait_until


def states(api: Api, run: dict) -> dict[str, str]:
    return {name: task["state_name"] for name, task in api.tasks(run["id"]).items()}


def settled(api: Api, names: list[str]) -> dict:
    """The last run, once the events about its tasks have arrived."""
    run = api.last_run()
    wait_until(lambda: all(state != "Running" for state in states(api, run).values()), 20, every=0.3)
    wait_until(lambda: set(api.tasks(run["id"])) >= set(names), 20, every=0.3)
    return api.run(run["id"])


def test_a_run_equals_dvc_repro_byte_for_byte(toy: Toy, template: Path, api: Api, server_env: dict[str, str]) -> None:
    other = Toy(toy.root.with_name("other"), toy.control)
    shutil.copytree(template, other.root, symlinks=True)
    other.dvc("repro")
    toy.flow("--side-by-side", "4", **server_env)
    assert toy.data() == other.data()
    assert (toy.root / "dvc.lock").read_bytes() == (other.root / "dvc.lock").read_bytes()
    assert "Data and pipelines are up to date" in toy.dvc("status")
    assert states(api, settled(api, STAGES)) == dict.fromkeys(STAGES, "Completed")


def test_the_page_gets_the_graph_the_logs_and_the_artifacts(toy: Toy, api: Api, server_env: dict[str, str]) -> None:
    toy.order("blend", "bar")
    toy.flow(**server_env)
    run = settled(api, STAGES)
    graph = api.call(f"/flow_runs/{run['id']}/graph-v2")
    names = {node_id: node["label"] for node_id, node in graph["nodes"]}
    edges = {(names[parent["id"]], node["label"]) for _, node in graph["nodes"] for parent in node["parents"]}
    assert ("extract@a", "blend") in edges
    assert ("fetch", "audit") in edges
    assert ("audit", "extract@a") not in edges
    wait_until(lambda: any("blend ends" in line["message"] for line in api.logs(run["id"])), 20, every=0.5)
    blend = api.tasks(run["id"])["blend"]["id"]
    said = [line["message"] for line in api.logs(run["id"]) if line["task_run_id"] == blend]
    assert "blend begins in toy" in said
    assert [line for line in said if "/200" in line] == ["100% 200/200"]
    found = api.artifacts(run["id"])
    assert set(found) == {"metrics-blend", "leaderboard", "plots", "submission", "report", "summary"}
    assert {row["metric"] for row in json.loads(found["metrics-blend"]["data"])} == {"log_loss", "folds.best"}
    assert json.loads(found["leaderboard"]["data"])[0] == {"learner": "logistic", "score": 0.32}
    assert "data:image/png;base64," in found["plots"]["data"]
    assert "data/submit/submission.csv" in found["submission"]["data"]
    assert "| 000 |" in found["summary"]["data"]


@pytest.mark.slow
def test_up_to_date_costs_no_process_and_the_run_cache_is_named(toy: Toy, api: Api, server_env: dict[str, str]) -> None:
    toy.flow(**server_env)
    toy.forget_calls()
    began = time.monotonic()
    toy.flow(**server_env)
    seconds = time.monotonic() - began
    run = settled(api, STAGES)
    assert toy.calls() == []
    assert states(api, run) == dict.fromkeys(STAGES, "Skipped")
    assert not any("> python" in line["message"] for line in api.logs(run["id"]))
    assert seconds < 30  # idle, 3 s (benchmarks/flow_vs_repro.py); here whatever else runs counts as well
    shutil.rmtree(toy.root / "data/blend")
    toy.run("rm", "dvc.lock")
    toy.flow(**server_env)
    assert toy.calls() == []
    assert states(api, settled(api, STAGES))["blend"] == "Restored"
    toy.flow("audit", "--force", **server_env)
    assert toy.calls() == ["fetch", "audit"]


def test_a_failure_stops_what_depends_on_it_and_nothing_else(toy: Toy, api: Api, server_env: dict[str, str]) -> None:
    toy.order("audit", "fail")
    toy.flow(ok=False, **server_env)
    run = settled(api, STAGES)
    found = states(api, run)
    assert found["audit"] == "Failed"
    assert (found["extract@a"], found["extract@b"]) == ("Completed", "Completed")
    assert found["blend"] == found["submit"] == found["report"] == "NotRun"
    assert run["state_name"] == "Failed"
    message = run["state"]["message"]
    assert "stage audit failed" in message
    assert "audit: no luck today" in message
    assert "dvc repro --single-item audit" in message
    assert "not run, as they need it: blend, submit, report" in message
    (toy.control / "audit").unlink()
    toy.forget_calls()
    toy.flow(**server_env)
    assert toy.calls() == ["audit", "blend", "submit", "report"]


def test_retries_come_from_meta_and_a_killed_stage_is_tried_again(
    toy: Toy, api: Api, server_env: dict[str, str]
) -> None:
    toy.order("extract@a", "fail-once")  # meta.retries is 1
    toy.order("audit", "tree")  # no meta; killed below
    flow = toy.start_flow(**server_env)
    pids = toy.tree("audit")
    (toy.control / "audit").unlink()
    os.kill(pids[0], signal.SIGKILL)
    out, _ = flow.communicate(timeout=120)
    assert flow.returncode == 0, out
    assert not alive(pids)
    calls = toy.calls()
    assert (calls.count("audit"), calls.count("extract@a")) == (2, 2)
    assert api.tasks(settled(api, STAGES)["id"])["audit"]["run_count"] == 2


def test_an_ordinary_failure_without_meta_is_not_retried(toy: Toy, server_env: dict[str, str]) -> None:
    toy.order("fetch", "fail-once")
    assert "no luck at first" in toy.flow("fetch", ok=False, **server_env)
    assert toy.calls() == ["fetch"]


def test_the_death_of_the_flow_ends_its_stages_and_the_next_run_goes_on(
    toy: Toy, api: Api, server_env: dict[str, str]
) -> None:
    toy.order("blend", "tree")
    flow = toy.start_flow(**server_env)
    pids = toy.tree("blend")
    flow.kill()
    assert wait_until(lambda: not alive(pids), 6) < 5
    flow.wait()
    dead = api.last_run()["id"]
    wait_until(lambda: api.run(dead)["state_type"] == "CRASHED", 30, every=0.3)
    wait_until(lambda: states(api, api.run(dead))["blend"] == "Crashed", 10, every=0.3)
    (toy.control / "blend").unlink()
    toy.forget_calls()
    table = toy.root / ".dvc/tmp/rwlock"
    held = {"pid": os.getpid(), "cmd": "/somewhere/dvc repro --single-item blend"}
    table.write_text(json.dumps({"write": {str(toy.root / "data/blend"): held}, "read": {}}))
    log = toy.flow(**server_env)
    assert toy.calls() == ["blend", "submit", "report"]
    assert "cleared a stale DVC lock" in log
    assert "Data and pipelines are up to date" in toy.dvc("status")


def test_gpu_stages_share_one_slot_also_between_two_runs(toy: Toy, template: Path, server_env: dict[str, str]) -> None:
    other = Toy(toy.root.with_name("other"), toy.control)
    shutil.copytree(template, other.root, symlinks=True)
    for stage in ("extract@a", "extract@b"):
        toy.order(stage, "sleep 0.7")
    both = [one.start_flow("extract", GOULOT_GPU_SLOTS="1", **server_env) for one in (toy, other)]
    for flow in both:
        out, _ = flow.communicate(timeout=120)
        assert flow.returncode == 0, out
    lines = [line.split() for line in (toy.control / "calls").read_text().splitlines()]
    begun = sorted(float(when) for name, when, _ in lines if name.startswith("extract"))
    assert len(begun) == 4
    assert min(after - before for before, after in zip(begun, begun[1:], strict=False)) > 0.7


def test_independent_stages_run_side_by_side(tmp_path: Path, server_env: dict[str, str]) -> None:
    stages = [f"s{number}" for number in range(4)]
    pipeline = "stages:\n" + "".join(
        f"  {name}:\n    cmd: python toy_stage.py {name} data/{name}\n    deps: [toy_stage.py]\n    outs: [data/{name}]\n"
        for name in stages
    )
    toy = toys.make(tmp_path / "toy", tmp_path / "control", pipeline)
    for name in stages:
        toy.order(name, "sleep 3")
    toy.flow("--side-by-side", "4", **server_env)
    begun = [float(line.split()[1]) for line in (toy.control / "calls").read_text().splitlines()]
    assert max(begun) - min(begun) < 3


@pytest.mark.slow
def test_a_run_without_any_server_works_and_leaves_none_when_it_is_killed(toy: Toy, tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "home")}
    log = toy.flow("fetch", **home)
    assert "1 completed" in log
    assert toy.calls() == ["fetch"]
    toy.order("audit", "tree")
    flow = toy.start_flow("audit", **home)
    stage = toy.tree("audit")
    pids = [child.pid for child in toys.psutil.Process(flow.pid).children(recursive=True)]
    assert set(stage) < set(pids)
    flow.kill()
    wait_until(lambda: not alive(stage), 5)
    wait_until(lambda: not alive(pids), 30)
    flow.wait()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-S", "augment.views=99"], "augment.views: Input should be less than or equal to 64"),
        (["-S", "augment.policy=wild"], "policy"),
        (["-S", "augment.angle=1"], "augment.angle"),
        (["-S", "augment.seed="], "augment.seed is None: input should be a valid integer"),
        (["-S", "augment.views=2", "-S", "augment.views.x=1"], "'augment.views.x=1' contradicts another setting"),
        (["-S", "augment.views=[1"], "the value of 'augment.views=[1' is not YAML"),
        (["-S", "views"], "section.key=value"),
        (["--side-by-side", "-1"], "greater than or equal to 0"),
        (["nowhere"], "unknown stage 'nowhere'"),
    ],
)
def test_a_bad_wish_is_refused_before_anything_runs(
    toy: Toy, server_env: dict[str, str], arguments: list[str], said: str
) -> None:
    assert said in toy.flow(*arguments, ok=False, **server_env)
    assert toy.calls() == []
    assert not (toy.root / "runs").exists()


def test_a_second_run_in_place_waits_for_the_first(toy: Toy, server_env: dict[str, str]) -> None:
    toy.order("fetch", "sleep 6")
    first = toy.start_flow("fetch", **server_env)
    wait_until(lambda: toy.calls() == ["fetch"], 30)
    second = toy.flow("fetch", **server_env)
    assert "waiting for the run that works in this checkout" in second
    assert toy.calls() == ["fetch"]
    assert first.wait(30) == 0


def test_an_interrupt_at_the_terminal_ends_the_stage(toy: Toy, server_env: dict[str, str]) -> None:
    toy.order("fetch", "tree")
    flow = toy.start_flow("fetch", **server_env)
    pids = toy.tree("fetch")
    flow.send_signal(signal.SIGINT)
    assert wait_until(lambda: not alive(pids), 6) < 5
    assert flow.wait(40) != 0


@pytest.mark.slow
def test_cancelling_a_run_from_a_terminal_ends_it_as_well(toy: Toy, api: Api, server_env: dict[str, str]) -> None:
    toy.order("augment", "tree")
    flow = toy.start_flow("-S", "augment.views=5", **server_env)
    pids = toy.tree("augment")
    run = api.last_run()["id"]
    api.call(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    assert wait_until(lambda: not alive(pids), 8) < 5
    out, _ = flow.communicate(timeout=40)
    assert flow.returncode == 1, out
    assert api.run(run)["state_name"] == "Cancelled"
    assert api.run(run)["state"]["message"].startswith("cancelled; done until then: ")
    assert not (toy.root / "runs").exists()
    assert list((toy.root / ".goulot/workspaces").iterdir()) == []
    (toy.control / "augment").unlink()
    toy.forget_calls()
    toy.flow("-S", "augment.views=5", **server_env)
    assert "fetch" not in toy.calls()
