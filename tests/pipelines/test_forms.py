"""The form on the page is the stages' own params: bounds, choices and descriptions, and empty means as in params.yaml."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from goulot.augmentation import POLICIES
from goulot.errors import ParamsError
from goulot.metrics import METRICS
from pipelines import flows, forms, schemas

SCHEMA: dict[str, Any] = flows.compete.parameters.model_dump()


def field(section: str, name: str) -> dict[str, Any]:
    described: dict[str, Any] = forms.Overrides.model_json_schema()["properties"][section]["properties"][name]
    return described


def test_every_stage_with_params_is_on_the_form() -> None:
    assert set(forms.Overrides.model_json_schema()["properties"]) == set(forms.sections())
    assert {"augment", "extract", "learn", "blend"} <= set(forms.sections())


def test_bounds_choices_and_descriptions_are_the_stages_own() -> None:
    views = field("augment", "views")
    assert (views["type"], views["minimum"], views["maximum"]) == ("integer", 0, 64)
    assert views["description"] == "views of each image beside the image itself (at least 0, at most 64)"
    assert field("extract", "device")["enum"] == ["auto", "cpu", "cuda"]


def test_a_choice_from_a_registry_is_a_list_that_grows_with_it() -> None:
    assert field("augment", "policy")["enum"] == [*POLICIES]
    assert field("blend", "metric")["enum"] == ["auto", *METRICS]


def test_a_family_says_what_to_write_into_its_box() -> None:
    told = field("extract", "backbones")["description"]
    assert 'e.g. {"r18": {"model": "resnet18", "weights": "hub"}, "lite2": null}' in told
    example = json.loads(told.partition("e.g. ")[2])
    assert forms.Overrides.model_validate({"extract": {"backbones": example}}).root == {
        "extract": {"backbones": example}
    }
    assert '"kind": "logistic"' in field("learn", "learners")["description"]


def test_no_field_is_required_and_none_has_a_default_that_would_freeze() -> None:
    for section in forms.Overrides.model_json_schema()["properties"].values():
        assert "required" not in section
        assert not any("default" in described for described in section["properties"].values())


def test_the_flow_offers_targets_force_and_whether_to_keep_the_run() -> None:
    offered = SCHEMA["properties"]
    assert set(offered) == {"overrides", "targets", "force", "keep", "side_by_side"}
    assert offered["keep"]["enum"] == ["with overrides", "always", "never"]
    assert offered["side_by_side"]["type"] == "integer"
    assert all(described["description"] for described in offered.values())


def test_boxes_are_named_as_in_params_yaml_and_say_all_of_their_description() -> None:
    assert field("ingest", "max_quarantined")["title"] == "max_quarantined"
    assert field("ingest", "train")["title"] == "train"
    assert "sample:&lt;name>" in field("fetch", "source")["description"]


def test_one_value_of_a_table_is_enough() -> None:
    assert "required" not in field("ingest", "train")
    filled = forms.Overrides.model_validate({"ingest": {"train": {"label": "y"}}})
    assert filled.root == {"ingest": {"train": {"label": "y"}}}


def test_only_what_was_filled_in_is_an_override() -> None:
    filled = forms.Overrides.model_validate({"augment": {"views": 5}, "blend": {}, "ingest": {"train": {}}})
    assert filled.root == {"augment": {"views": 5}}


def test_what_may_be_empty_can_be_emptied() -> None:
    filled = forms.Overrides.model_validate({"extract": {"threads": None}})
    assert filled.root == {"extract": {"threads": None}}
    assert "null as JSON input" in field("extract", "threads")["description"]
    forms.check({"extract": {"threads": 4, "backbones": {"a": {"model": "resnet18"}}}}, filled.root)
    with pytest.raises(ParamsError, match="augment.seed is None"):
        forms.check({"augment": {"seed": 1}}, forms.Overrides.model_validate({"augment": {"seed": None}}).root)


def test_an_entry_of_a_family_can_be_taken_out() -> None:
    filled = forms.Overrides.model_validate({"extract": {"backbones": {"lite2": None}}})
    assert filled.root == {"extract": {"backbones": {"lite2": None}}}


@pytest.mark.parametrize("bad", [{"augment": {"views": 65}}, {"augment": {"angle": 1}}, {"augmnt": {}}])
def test_what_the_stage_would_refuse_the_form_refuses(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        forms.Overrides.model_validate(bad)


def test_what_no_single_field_can_tell_is_checked_on_the_whole_section() -> None:
    with pytest.raises(ParamsError, match="augment"):
        forms.check({"augment": {"policy": "dihedral"}}, {"augment": {"policy": "wild"}})


def test_a_switch_can_be_left_as_it_is() -> None:
    assert schemas.plain({"anyOf": [{"type": "boolean"}, {"type": "null"}]}) == {"enum": [True, False]}
