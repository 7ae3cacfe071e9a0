"""The command line of `python -m pipelines.flows`."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from goulot.errors import GoulotError
from pipelines.errors import PipelineError


def main(arguments: list[str] | None = None) -> None:
    """Run `compete` and end with 0 if it went well, 1 if not."""
    from pipelines import flows, forms

    asked = _parser().parse_args(arguments)
    try:
        overrides = forms.Overrides.model_validate(nested(asked.set_param))
        state: Any = flows.compete(
            overrides,
            targets=asked.targets,
            force=asked.force,
            keep=asked.keep,
            side_by_side=asked.side_by_side,
            return_state=True,
        )
    except ValidationError as error:
        sys.exit("; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()))
    except GoulotError as error:
        sys.exit(str(error))
    except RuntimeError as error:
        if not str(error).startswith("Failed to reach API"):
            raise
        sys.exit(f"{error}; start that server, or unset PREFECT_API_URL to do without one")
    sys.exit(0 if state.is_completed() else 1)


def nested(settings: list[str]) -> dict[str, Any]:
    """Return `section.key=value` items as nested mappings; values are YAML, as in DVC's `-S`."""
    document: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        *parents, last = path.split(".")
        if not equals or not parents or not all([*parents, last]):
            raise PipelineError(f"cannot read {setting!r}; it has to look like section.key=value")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise PipelineError(f"{setting!r} contradicts another setting, which gives {parent!r} a value")
        place[last] = _value(setting, value)
    return document


def spelled(overrides: Mapping[str, Any]) -> list[str]:
    """Return overrides as `nested` reads them: JSON is YAML, too."""
    return [f"{name}.{key}={json.dumps(value)}" for name, fields in overrides.items() for key, value in fields.items()]


def _value(setting: str, value: str) -> Any:
    try:
        return YAML(typ="safe").load(value)
    except YAMLError as error:
        raise PipelineError(f"the value of {setting!r} is not YAML: {' '.join(str(error).split())}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.flows", description="Run the pipeline as a flow.")
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="bring these up to date; all by default")
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("-f", "--force", action="store_true", help="run the stages even if they are up to date")
    parser.add_argument("--keep", choices=["with overrides", "always", "never"], default="with overrides")
    parser.add_argument(
        "--side-by-side", type=int, default=0, metavar="N", help="cores to fill with stages, by default all"
    )
    return parser
