"""`goulot preset`: how much a run does, written into params.yaml; comments and all other settings stay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from goulot import presets
from goulot.commands.editing import edited
from goulot.errors import ParamsError, choices

FOLDER = Path(presets.__file__).parent
NAMES = ("quick", "default", "gpu")


def read(name: str) -> CommentedMap:
    """What a preset sets, by section and key. Raises ParamsError for an unknown one."""
    if name not in NAMES:
        raise ParamsError(choices("preset", name, NAMES, "the presets are"))
    document: CommentedMap = YAML().load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return document


def run(name: str) -> list[str]:
    """Write the preset; return a line for each setting that changed."""
    wanted, lines = read(name), []
    with edited() as document:
        for section, settings in wanted.items():
            own = document.get(section)
            if not isinstance(own, CommentedMap):
                raise ParamsError(f"params.yaml: {section} must hold settings")
            for key, value in settings.items():
                if own.get(key) != value:
                    lines += _differences(f"{section}.{key}", own.get(key), value)
                    _replace(own, key, value)
    return [*lines, f"params.yaml is as the preset {name} has it; next: dvc repro"]


def _differences(where: str, old: object, new: object) -> list[str]:
    """A line for each setting below `where` that is not the same."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        both = dict.fromkeys([*old, *new])
        return [line for key in both for line in _differences(f"{where}.{key}", old.get(key), new.get(key))]
    return [] if old == new else [f"{where}: {_said(old)} -> {_said(new)}"]


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    return "-" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _replace(own: CommentedMap, key: str, value: Any) -> None:
    """Set the value. What stands between the old one and the next key hangs on the old one's last line, and stays."""
    holder, last = _last(own, key)
    kept = holder.ca.items.pop(last, None) if holder is not own else None
    own[key] = value
    if kept and kept[2]:
        holder, last = _last(own, key)
        kept[2].value = kept[2].value[kept[2].value.index("\n") :]
        holder.ca.items[last] = kept


def _last(parent: CommentedMap, key: Any) -> tuple[CommentedMap, Any]:
    """The innermost block that ends a value, and its last key."""
    value = parent.get(key)
    if isinstance(value, CommentedMap) and len(value) and not value.fa.flow_style():
        return _last(value, list(value)[-1])
    return parent, key
