"""Planning of extra parameters: bounds, what a model does not accept, and parameters without an effect."""

from dataclasses import replace

import pytest

from codec_wire.errors import InvalidRequest
from codec_wire.extra import ExtraParameters
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.extra_field import ExtraField
from core.model import GenerationMode, ModelInfo
from core.plan import StreamPlan, plan
from tests.support.serving import MODEL, bundle_of

CLIP_SKIP, RESCALE = ExtraField("clip_skip", 0, 11, 0), ExtraField("guidance_rescale", 0, 1, 0)
TRUE_SCALE = ExtraField("true_cfg_scale", 1, 100, 1)


def model_with(*fields: ExtraField, negative_prompt: bool = True) -> ModelInfo:
    return replace(MODEL, modes=(GenerationMode(Modality.IMAGE, negative_prompt=negative_prompt, extra=fields),))


SD = model_with(CLIP_SKIP, RESCALE)
FLUX = model_with(TRUE_SCALE, ExtraField("max_sequence_length", 8, 512, 512), negative_prompt=False)
QWEN = model_with(replace(TRUE_SCALE, default=4, same_as="guidance_scale"))


def plan_for(model: ModelInfo, **fields: object) -> StreamPlan:
    values = {"prompt": "x", "size": (64, 64)} | fields
    return plan(parse_request(values), bundle_of(model), model)


@pytest.mark.parametrize(
    ("model", "fields", "field", "message"),
    [
        (SD, {"extra": {"clip_skip": 12}}, "extra.clip_skip", "must be from 0 to 11 for tiny-sd, got 12$"),
        (SD, {"extra": {"clip_skip": -1}}, "extra.clip_skip", "must be greater than or equal to 0, got -1$"),
        (SD, {"extra": {"clip_skip": 1.5}}, "extra.clip_skip", "got 1.5$"),
        (SD, {"extra": {"guidance_rescale": 1.1}}, "extra.guidance_rescale", "less than or equal to 1, got 1.1$"),
        (SD, {"extra": {"guidance_rescale": float("nan")}}, "extra.guidance_rescale", "got nan$"),
        (
            SD,
            {"extra": {"guidance_rescale": 0.5}, "guidance_scale": 1.0},
            "extra.guidance_rescale",
            "guidance_scale must be above 1 or absent, got 1$",
        ),
        (
            replace(SD, prompt_syntaxes=("plain", "compel")),
            {"extra": {"clip_skip": 1}, "prompt_syntax": "compel"},
            "extra.clip_skip",
            "must not be combined with prompt_syntax compel",
        ),
        (
            SD,
            {"extra": {"max_sequence_length": 256}},
            "extra.max_sequence_length",
            r"got 256; allowed parameters: clip_skip \(0 to 11\), guidance_rescale \(0 to 1\)$",
        ),
        (MODEL, {"extra": {"clip_skip": 1}}, "extra.clip_skip", "got 1; allowed parameters: none$"),
        (SD, {"extra": {"clip_skp": 1}}, "extra.clip_skp", "did you mean 'extra.clip_skip'"),
        (SD, {"extra": {"x": 1}}, "extra.x", "allowed: extra.clip_skip, extra.guidance_rescale, extra.max_"),
        (SD, {"extra": {f"x{number}": 1 for number in range(17)}}, "extra", "must have at most 16 entries, got "),
        (SD, {"extra": 5}, "extra", "got 5$"),
        (SD, {"extra": [{"clip_skip": 1}]}, "extra", "got "),
        (
            FLUX,
            {"extra": {"true_cfg_scale": 2}},
            "extra.true_cfg_scale",
            "must be at most 1 without negative_prompt, got 2; ",
        ),
        (FLUX, {"extra": {"true_cfg_scale": 0.5}}, "extra.true_cfg_scale", "greater than or equal to 1, got 0.5$"),
        (FLUX, {"negative_prompt": "fog"}, "negative_prompt", "unless extra.true_cfg_scale is above 1$"),
        (
            FLUX,
            {"negative_prompt": "fog", "extra": {"true_cfg_scale": 1}},
            "negative_prompt",
            "unless extra.true_cfg_scale is above 1$",
        ),
        (FLUX, {"extra": {"max_sequence_length": 513}}, "extra.max_sequence_length", "from 8 to 512 .*, got 513$"),
        (
            QWEN,
            {"extra": {"true_cfg_scale": 2}, "guidance_scale": 3.0, "negative_prompt": ""},
            "extra.true_cfg_scale",
            "must be omitted if the request contains guidance_scale",
        ),
    ],
)
def test_parameter_that_is_invalid_or_has_no_effect_is_rejected(
    model: ModelInfo, fields: dict[str, object], field: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        plan_for(model, **fields)
    assert caught.value.field == field


def test_request_without_parameters_has_the_plan_of_a_request_without_extra() -> None:
    without = plan_for(SD)
    for extra in ({}, {"clip_skip": None}, {"clip_skip": None, "guidance_rescale": None}):
        assert plan_for(SD, extra=extra) == without
    assert without.extra is None


def test_integers_may_be_written_as_in_other_fields() -> None:
    for value in (2, 2.0, "2"):
        assert plan_for(SD, extra={"clip_skip": value}).extra == ExtraParameters(clip_skip=2)


def test_second_pass_of_true_guidance_doubles_the_cost() -> None:
    plain = plan_for(FLUX)
    guided = plan_for(FLUX, negative_prompt="", extra={"true_cfg_scale": 2})
    assert (guided.negative_prompt, guided.cost) == ("", 2 * plain.cost)
    assert plan_for(FLUX, extra={"true_cfg_scale": 1}).cost == plain.cost
    rendered = replace(plain, rendered=True)
    assert replace(guided, rendered=True).cost - rendered.cost == plain.cost
    # Qwen-Image has two passes with any negative prompt, which are part of its usual cost.
    assert plan_for(QWEN, negative_prompt="fog", extra={"true_cfg_scale": 2}).cost == plain.cost


def test_empty_negative_prompt_is_not_passed_to_a_model_without_negative_prompts() -> None:
    assert plan_for(FLUX, negative_prompt="").negative_prompt is None
    assert plan_for(SD, negative_prompt="").negative_prompt == ""
