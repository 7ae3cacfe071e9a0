"""The graph that the flow drives is the one that `dvc repro` would run."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import toy as toys
from toy import Toy

from pipelines import graph
from pipelines.errors import PipelineError


def test_edges_follow_containment_in_both_directions(toy: Toy) -> None:
    read = graph.read(toy.root)
    needs = {name: set(stage.needs) for name, stage in read.stages.items()}
    assert needs == {
        "fetch": set(),
        "augment": {"fetch"},
        "extract@a": {"augment"},
        "extract@b": {"augment"},
        "audit": {"fetch"},  # its dep is a file inside fetch's out
        "blend": {"audit", "extract@a", "extract@b"},  # its dep is the folder above extract's outs
        "submit": {"blend"},
        "report": {"submit"},
    }


def test_stages_come_in_the_order_of_dvc_repro(toy: Toy) -> None:
    ran = [line.split("'")[1] for line in toy.dvc("repro").splitlines() if line.startswith("Running stage")]
    assert list(graph.read(toy.root).stages) == ran


def test_meta_says_who_wants_a_gpu_and_how_often_to_try(toy: Toy) -> None:
    stages = graph.read(toy.root).stages
    assert (stages["extract@a"].gpu, stages["extract@a"].retries) == (True, 1)
    assert (stages["audit"].gpu, stages["audit"].retries) == (False, None)


def test_targets_bring_what_they_need_and_a_family_all_its_members(toy: Toy) -> None:
    assert list(graph.read(toy.root, ["audit"]).stages) == ["fetch", "audit"]
    assert set(graph.read(toy.root, ["extract"]).stages) == {"fetch", "augment", "extract@a", "extract@b"}


def test_an_unknown_target_is_refused_with_the_known_ones(toy: Toy) -> None:
    with pytest.raises(PipelineError, match="unknown stage 'extrat'; dvc.yaml defines fetch, augment, extract@a"):
        graph.read(toy.root, ["extrat"])


def test_freshness_is_that_of_dvc_and_says_why(toy: Toy) -> None:
    assert set(graph.read(toy.root).stale.values()) == {"it has not been run yet"}
    toy.dvc("repro")
    assert set(graph.read(toy.root).stale.values()) == {None}
    params = toy.root / "params.yaml"
    params.write_text(params.read_text().replace("views: 3", "views: 4"))
    assert _stale(graph.read(toy.root)) == {"augment": "augment is modified"}
    params.write_text(params.read_text().replace("views: 4", "views: 3"))
    (toy.root / "data/raw/out.txt").unlink()
    stale = _stale(graph.read(toy.root))
    assert set(stale) == {"fetch", "augment", "audit"}
    assert stale["audit"] == "data/raw/out.txt is deleted"
    pipeline = toy.root / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("report data/report", "report  data/report"))
    assert _stale(graph.read(toy.root))["report"] == "its command changed"


def test_reading_the_graph_waits_for_a_writer_of_dvc_lock(toy: Toy) -> None:
    """While another stage's DVC holds the lock, `dvc.lock` may be half-written."""
    from threading import Thread

    from dvc.repo import Repo

    found: list[object] = []
    with Repo(str(toy.root)) as repo, repo.lock:
        reader = Thread(target=lambda: found.append(graph.why_stale(toy.root, "fetch")))
        reader.start()
        reader.join(1.0)
        assert found == []
    reader.join(10)
    assert found == ["it has not been run yet"]


def test_the_lock_file_is_put_in_the_order_of_dvc_repro(toy: Toy) -> None:
    toy.dvc("repro", "fetch")
    read = graph.read(toy.root)
    for name in ["audit", "augment", "extract@b", "extract@a"]:
        toy.dvc("repro", "--single-item", name)
    graph.settle_lock_order(read)
    shuffled = (toy.root / "dvc.lock").read_bytes()
    assert _order(shuffled.decode()) == ["fetch", *_without(read.stages, ["fetch", "blend", "submit", "report"])]
    toy.run("rm", "dvc.lock")
    toy.dvc("repro", "audit", "extract@a", "extract@b")
    toy.dvc("repro")
    graph.settle_lock_order(graph.read(toy.root))
    assert "Data and pipelines are up to date" in toy.dvc("status")


def test_a_broken_pipeline_file_is_one_clear_line(toy: Toy) -> None:
    (toy.root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(PipelineError, match=r"dvc\.yaml"):
        graph.read(toy.root)


def test_outside_of_a_repository_the_fix_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="change into a goulot checkout"):
        graph.find_root(tmp_path)


@pytest.mark.parametrize("meta", ["{retries: many}", "{resource: tpu}"])
def test_bad_meta_is_refused(tmp_path: Path, meta: str) -> None:
    pipeline = toys.PIPELINE.replace("{resource: gpu, retries: 1}", meta)
    toy = toys.make(tmp_path / "toy", tmp_path / "control", pipeline)
    with pytest.raises(PipelineError, match="extract@a: meta"):
        graph.read(toy.root)


def _stale(read: graph.Graph) -> dict[str, str]:
    return {name: why for name, why in read.stale.items() if why}


def _order(lock: str) -> list[str]:
    return [line.strip().rstrip(":") for line in lock.splitlines() if line.startswith("  ") and line[2] not in " -"]


def _without(names: Iterable[str], gone: list[str]) -> list[str]:
    return [name for name in names if name not in gone]
