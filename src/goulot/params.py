"""`params.yaml`, read one section at a time into frozen, bounded pydantic models."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from goulot import layout
from goulot.errors import ParamsError, choices


class Section(BaseModel):
    """A section of `params.yaml`: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


Text = Annotated[str, Field(coerce_numbers_to_str=True)]  # as a column's cells are: 1 is "1"

# What was once a key, and what stands in its place.
MOVED = {"submit.positive": "take it out; ingest.classes is the classes' order, of two of which the second is positive"}

SectionT = TypeVar("SectionT", bound=Section)


def load(section: str, model: type[SectionT]) -> SectionT:
    """Read one section. Raises ParamsError with one line that names the key, the value and what is allowed."""
    document = read()
    if section not in document:
        raise ParamsError(f"params.yaml has no section {section!r}; it has {', '.join(document)}")
    return parse(section, document[section], model)


def members(section: str, family: str, *, least: int = 1) -> list[str]:
    """The names that `params.yaml` gives a family of stages, e.g. its backbones: what is removed there is gone."""
    named = read().get(section, {})
    members = named.get(family) if isinstance(named, Mapping) else None
    if not members and not least:
        return []
    if not isinstance(members, Mapping) or not members:
        raise ParamsError(f"params.yaml: {section}.{family} must name at least one")
    return [str(name) for name in members]


def read() -> dict[str, Any]:
    """The whole document, unchecked. ruamel.yaml is what DVC itself reads it with (YAML 1.2: 1e-3 is a number)."""
    if not layout.PARAMS.is_file():
        raise ParamsError("no params.yaml here; run goulot in the root of the repository")
    try:
        document = YAML(typ="safe").load(layout.PARAMS.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ParamsError("params.yaml is not valid YAML: " + " ".join(str(error).split())) from error
    if not isinstance(document, Mapping):
        raise ParamsError(f"params.yaml must hold sections, not {type(document).__name__}")
    return dict(document)


def parse(where: str, value: object, model: type[SectionT]) -> SectionT:
    """Check a value against a section's model."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ParamsError("; ".join(_line(where, dict(fault), model) for fault in error.errors()[:3])) from error


def _line(where: str, fault: dict[str, Any], model: type[Section]) -> str:
    *parents, last = fault["loc"] or (where,)
    key = ".".join([where, *(str(part) for part in fault["loc"])])
    if fault["type"] == "extra_forbidden":
        if key in MOVED:
            return f"params.yaml: {key} is no more: {MOVED[key]}"
        known = model.model_fields if not parents else _fields(model, parents)
        return "params.yaml: " + choices("key", str(last), known, f"{key.rpartition('.')[0]} has")
    if fault["type"] == "missing":
        return f"params.yaml: {key} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"params.yaml: {key} is {fault['input']!r}: {message[0].lower()}{message[1:]}"


def _fields(model: type[Section], parents: list[str | int]) -> Mapping[str, Any]:
    """The keys that a nested model knows, found by walking the annotations; empty where it cannot tell."""
    current: Any = model
    for part in parents:
        field = getattr(current, "model_fields", {}).get(part)
        annotation = field.annotation if field else current
        arguments = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        current = annotation if hasattr(annotation, "model_fields") else (arguments[0] if arguments else None)
    return getattr(current, "model_fields", {})
