"""dvc.yaml against the code: what a stage depends on is what its module imports and reads."""

import ast
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from goulot import cli, layout
from goulot.params import Section

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
# Versioned as one by schema.py, and imported by every stage.
INFRASTRUCTURE = {f"goulot.{name}" for name in ("artifacts", "errors", "layout", "params", "progress")}
PACKAGES = {"goulot", "goulot.stages"}
FAMILIES = {
    "extract": ("backbones", layout.features),
    "learn": ("learners", layout.learned),
    "finetune": ("networks", layout.finetuned),
    "prune": ("networks", layout.pruned),
}
EXTRA = {"report": {f"src/goulot/templates/report.{kind}" for kind in ("css", "html", "js")}}
LISTS = {
    "rank": {"extract.backbones"},
    "blend": {"finetune.networks", "learn.learners"},
    "report": {"extract.backbones", "finetune.networks", "learn.learners"},
}
DVC = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
for _stage in ("finetune", "prune"):
    PARAMS[_stage]["networks"].setdefault("any", {"backbone": next(iter(PARAMS["extract"]["backbones"]))})


def _resolved() -> dict[str, dict[str, Any]]:
    stages = {}
    for name, stage in DVC["stages"].items():
        if "foreach" not in stage:
            stages[name] = _filled(
                stage, {"fetch.watch": PARAMS["fetch"]["watch"], "audit.backbone": PARAMS["audit"]["backbone"]}
            )
            continue
        members = PARAMS
        for part in stage["foreach"].removeprefix("${").removesuffix("}").split("."):
            members = members[part]
        for key, item in members.items():
            stages[f"{name}@{key}"] = _filled(stage["do"], {"key": key, **{f"item.{k}": v for k, v in item.items()}})
    return stages


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    for name, text in names.items():
        value = value.replace("${" + name + "}", str(text)) if isinstance(value, str) else value
    return value


STAGES = _resolved()


def _path(module: str) -> Path | None:
    base = SRC / module.replace(".", "/")
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    assert path, module
    return ast.parse(path.read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of goulot that a module imports, at the top or in a function, packages among them."""
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = {name for name in found if name.split(".")[0] == "goulot" and _path(name)}
    parents = {name.rsplit(".", depth)[0] for name in found for depth in range(1, name.count(".") + 1)}
    return frozenset(found | parents)


def closure(*modules: str) -> set[str]:
    """All of goulot that they import, directly or not, the infrastructure apart."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen | INFRASTRUCTURE | PACKAGES:
            seen.add(module)
            waiting += imports(module)
    return seen


def modules_of(name: str) -> set[str]:
    """The modules whose change must run a stage again."""
    stage, _, member = name.partition("@")
    found = closure(f"goulot.stages.{stage}")
    if stage == "learn":
        kinds = {path.stem for path in (SRC / "goulot/learners").glob("*.py")} - {"__init__"}
        kind = PARAMS["learn"]["learners"][member]["kind"]
        helpers = closure(*(f"goulot.learners.{k}" for k in kinds)) - {f"goulot.learners.{k}" for k in kinds}
        found |= {f"goulot.learners.{kind}"} | helpers
    return found


def read_by(name: str) -> set[Path]:
    """The paths of `layout` that a stage's modules name; a family's function stands for the family's folder."""
    used: set[Path] = set()
    family = {layout.features: layout.EXTRACT, layout.learned: layout.LEARN, layout.finetuned: layout.FINETUNE}
    if name.startswith("finetune@"):  # one network's features alone: another network must not train it anew
        family[layout.features] = layout.features(STAGES[name]["params"][0].rpartition(".")[2])
    if name == "audit":  # one fixed backbone's: another must not move a fold
        family[layout.features] = layout.features(PARAMS["audit"]["backbone"])
    for module in modules_of(name):
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "layout":
                value = getattr(layout, node.attr)
                value = family.get(value, value)
                if isinstance(value, Path) and layout.DATA in value.parents:
                    used.add(value)
    return used


def own_folder(name: str) -> Path:
    """Where layout.py says that a stage writes."""
    stage, _, member = name.partition("@")
    if member:
        return FAMILIES[stage][1](member)
    return layout.RAW if stage == "fetch" else Path(getattr(layout, stage.upper()))


def _within(path: Path, folder: Path) -> bool:
    return folder == path or folder in path.parents


def _deps(name: str, prefix: str) -> set[str]:
    return {dep for dep in STAGES[name].get("deps", []) if dep.startswith(prefix)}


def test_every_stage_of_the_command_line_is_in_the_graph_and_has_a_module() -> None:
    verbs = {*cli.STAGES, *cli.FAMILIES}
    assert set(DVC["stages"]) == verbs
    assert {path.stem for path in (SRC / "goulot/stages").glob("*.py")} - {"__init__"} == verbs
    assert set(PARAMS) == verbs


@pytest.mark.parametrize("name", STAGES)
def test_a_changed_module_would_not_run_its_stage(name: str) -> None:
    files = {_path(module) for module in modules_of(name)}
    expected = {str(path.relative_to(ROOT)) for path in files if path} | {"src/goulot/schema.py"}
    deps = _deps(name, "src/")
    folders = {dep for dep in deps if (ROOT / dep).is_dir()}
    covered = {file for file in expected if any(_within(Path(file), Path(folder)) for folder in folders)}
    assert deps - folders == (expected - covered) | EXTRA.get(name, set())
    assert all(any(_within(Path(file), Path(folder)) for file in covered) for folder in folders)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_what_it_does_not_depend_on(name: str) -> None:
    stage = name.partition("@")[0]
    own = layout.DATA / stage if "@" in name else own_folder(name)
    deps = {Path(dep) for dep in _deps(name, "data/")}
    foreign = {path for path in read_by(name) if not _within(path, own)}
    uncovered = {path for path in foreign if not any(_within(path, dep) for dep in deps)}
    assert not uncovered
    assert {Path(*dep.parts[:2]) for dep in deps} == {Path(*path.parts[:2]) for path in foreign}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_data_that_no_stage_writes(name: str) -> None:
    others = [own_folder(other) for other in STAGES if other != name]
    for dep in map(Path, _deps(name, "data/")):
        assert any(_within(dep, out) or _within(out, dep) for out in others), dep


@pytest.mark.parametrize("name", STAGES)
def test_an_output_is_not_where_the_layout_says(name: str) -> None:
    assert STAGES[name]["outs"] == [str(own_folder(name))]
    assert STAGES[name]["cmd"] == "goulot " + name.replace("@", " ")


@pytest.mark.parametrize("name", STAGES)
def test_a_changed_setting_would_not_run_its_stage(name: str) -> None:
    stage, _, member = name.partition("@")
    expected = {stage} | LISTS.get(stage, set())
    if member:
        family = FAMILIES[stage][0]
        model: type[Section] = importlib.import_module(f"goulot.stages.{stage}").Params
        expected = {f"{stage}.{key}" for key in model.model_fields if key != family}
        expected.add(f"{stage}.{family}.{member}")
        if stage in ("finetune", "prune"):
            expected.add(f"extract.backbones.{PARAMS[stage][family][member]['backbone']}")
    assert set(STAGES[name]["params"]) == expected


@pytest.mark.parametrize("stage", ["rank", "blend"])
def test_what_is_read_from_a_family_is_globbed_and_so_keeps_ghosts(stage: str) -> None:
    calls = [n for n in ast.walk(_tree(f"goulot.stages.{stage}")) if isinstance(n, ast.Call)]
    names = {n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "") for n in calls}
    assert "members" in names
    assert not names & {"glob", "rglob", "iterdir", "listdir", "scandir"}


def test_metrics_and_plots_are_of_no_stage() -> None:
    shown = [*DVC["metrics"]]
    for plot in DVC["plots"]:
        if isinstance(plot, str):
            shown.append(plot)
        else:
            ((name, options),) = plot.items()
            shown += [*options["x"], *options["y"]] if isinstance(options["y"], dict) else [name]
    outs = [own_folder(name) for name in STAGES]
    for file in shown:
        assert any(_within(Path(file), out) for out in outs), file


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_the_library_needs_an_orchestrator(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"dvc", "prefect"}
