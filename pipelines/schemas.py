"""JSON schemas as the page's forms show them best, and a place to keep one that is slow to make."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from platformdirs import user_cache_path

import goulot


def plain(field: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optional field's schema without its null and its default: a box that may stay empty."""
    kinds = [kind for kind in field.get("anyOf", []) if kind.get("type") != "null"]
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default", "hint")}
    merged = {**kinds[0], **rest} if len(kinds) == 1 else {**rest, **({"anyOf": kinds} if kinds else {})}
    if merged.get("type") == "boolean":
        # A switch could not be left as it is; the page shows choices without a type as a list.
        merged["enum"] = [True, False]
        del merged["type"]
    if said := " ".join(filter(None, [merged.get("description"), bounds(merged), field.get("hint")])):
        # The page takes it for markdown, in which <name> would be a tag and not be shown.
        merged["description"] = said.replace("<", "&lt;")
    return merged


def bounds(field: Mapping[str, Any]) -> str:
    """Return the allowed numbers in words: the page enforces them and does not show them."""
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    least, most = field.get("minimum"), field.get("maximum")
    parts = [
        f"more than {above}" if above is not None else "",
        f"at least {least}" if least is not None else "",
        f"less than {below}" if below is not None else "",
        f"at most {most}" if most is not None else "",
    ]
    told = ", ".join(filter(None, parts))
    return f"({told})" if told else ""


def inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with every reference replaced by what it refers to."""
    known = schema.get("$defs", {})

    def expand(part: Any) -> Any:
        if isinstance(part, Mapping):
            if (name := str(part.get("$ref", "")).rpartition("/")[2]) in known:
                return expand({**known[name], **{key: value for key, value in part.items() if key != "$ref"}})
            return {key: expand(value) for key, value in part.items() if key != "$defs"}
        return [expand(item) for item in part] if isinstance(part, list) else part

    whole: dict[str, Any] = expand(schema)
    return whole


def ordered(schema: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the schema with these properties first, in this order: the page shows them as they come."""
    properties = schema.get("properties", {})
    known = [name for name in names if name in properties]
    return {**schema, "properties": {name: properties[name] for name in dict.fromkeys([*known, *properties])}}


def kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the schema from the user's cache folder, or make and keep it if the code has changed since."""
    package = Path(goulot.__file__).parent
    place = hashlib.sha256(str(package).encode()).hexdigest()[:16]
    file = user_cache_path("goulot") / f"{name}-{place}.json"
    stamp = _stamp(package)
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["stamp"] == stamp:
            schema: dict[str, Any] = held["schema"]
            return schema
    except (OSError, ValueError, KeyError):
        pass
    made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"stamp": stamp, "schema": made}), encoding="utf-8")
    fresh.replace(file)
    return made


def _stamp(package: Path) -> str:
    """Return what changes when the code or pydantic does."""
    sources = [*sorted(package.rglob("*.py")), *sorted(Path(__file__).parent.glob("*.py"))]
    state = [
        pydantic.VERSION,
        *(f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in sources),
    ]
    return hashlib.sha256("\n".join(state).encode()).hexdigest()
