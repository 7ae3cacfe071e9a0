"""The run form: each stage's own params, every one optional, so that empty means "as in params.yaml".

The page leaves empty boxes out of what it sends; a null that was written there is meant.

Derived from the models that the stages themselves use: the bounds, choices and descriptions on the page
cannot differ from those that hold. What a single field cannot tell (that a name is known, that two values
fit) is checked by the stage's own model on the whole section before anything runs.

The stages' modules import torch and more, which takes seconds. A run without overrides needs none of it, so
the models are built when overrides are given, and the form's schema is kept in a file as long as the code
is the same.
"""

import json
import pkgutil
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib import import_module
from typing import Annotated, Any, get_args, get_origin

from dvc.utils.serialize import load_yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    RootModel,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from goulot import layout, params
from goulot.params import Section
from pipelines import schemas
from pipelines.workspace import merge


class Overrides(RootModel[dict[str, Any]]):
    """What differs from params.yaml, section by section."""

    root: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _within_bounds(self) -> "Overrides":
        if self.root:
            filled = form().model_validate(self.root).model_dump(mode="json", exclude_unset=True)
            # A box that was filled in and emptied again leaves a mapping behind.
            wanted = {
                name: {key: value for key, value in (values or {}).items() if value != {}}
                for name, values in filled.items()
            }
            self.root = {name: values for name, values in wanted.items() if values}
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the form instead of a bare mapping."""
        schema = schemas.kept("form", lambda: schemas.inlined(form().model_json_schema()))
        return schemas.ordered(schema, _pipeline_order())


class Form(BaseModel):
    """Fields that may all be left out."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the fields as plain ones, not required: the page then shows an empty box for each."""
        schema = handler.resolve_ref_schema(handler(core))
        fields = schema.get("properties", {})
        # Named as in params.yaml.
        schema["properties"] = {name: schemas.plain(field) | {"title": name} for name, field in fields.items()}
        return schema


def check(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Check the sections as they would be. Raises ParamsError with the reason before anything runs."""
    merged = deepcopy(dict(document))
    merge(merged, overrides)
    for name in overrides:
        params.parse(name, merged[name], sections()[name])


@cache
def sections() -> dict[str, type[Section]]:
    """Return the params model of each stage by the name of its section in `params.yaml`."""
    from goulot import stages

    found = {}
    for module in pkgutil.iter_modules(stages.__path__):
        model = getattr(import_module(f"{stages.__name__}.{module.name}"), "Params", None)
        if isinstance(model, type) and issubclass(model, Section):
            found[module.name] = model
    return found


@cache
def form() -> type[Form]:
    """Return the model of the whole form."""
    fields: dict[str, Any] = {name: _section_form(name, model) for name, model in sections().items()}
    return create_model("OverridesForm", __base__=Form, __doc__="Empty means: as in params.yaml.", **fields)


def _pipeline_order() -> list[str]:
    """Return the sections as `params.yaml` orders them, none if this is no checkout."""
    return list(load_yaml(layout.PARAMS)) if layout.PARAMS.exists() else []


def _section_form(name: str, model: type[Section]) -> Any:
    described = (model.__doc__ or "").strip().partition("\n")[0] or f"Params of {name}."
    section = _optional(model, described)
    return (section, Field(default_factory=section, description=described))


def _optional(model: type[BaseModel], described: str | None = None) -> type[Form]:
    """Return the model with every field optional, also those of the models in it."""
    fields: dict[str, Any] = {key: (_annotation(info) | None, _field(info)) for key, info in model.model_fields.items()}
    return create_model(f"{model.__module__}.{model.__name__}Form", __base__=Form, __doc__=described, **fields)


def _annotation(info: FieldInfo) -> Any:
    """Return the field's type with its bounds; a family, keyed by names of the user's, as a mapping."""
    if get_origin(info.annotation) is dict:
        return dict[str, Any]
    for part in (info.annotation, *get_args(info.annotation)):  # a model, or one that may be null
        if isinstance(part, type) and issubclass(part, BaseModel):
            return _optional(part)
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _field(info: FieldInfo) -> Any:
    extra = dict(info.json_schema_extra) if isinstance(info.json_schema_extra, Mapping) else {}
    if get_origin(info.annotation) is dict:
        examples = [f"e.g. {json.dumps(example)}" for example in info.examples or []]
        extra["hint"] = " ".join(["(JSON, merged into params.yaml; null takes an entry out)", *examples])
    elif type(None) in get_args(info.annotation):
        extra["hint"] = "(null as JSON input, in the menu at the right, empties it)"
    return Field(default=None, description=info.description, json_schema_extra=extra)
