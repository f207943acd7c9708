"""The field `extra` of a generation request: parameters that only some model families have."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from codec_wire.integers import parse_integer
from codec_wire.latents import MAX_UINT32

_MAX_ENTRIES = 16


class ExtraParameters(BaseModel):
    """Parameters that only some model families have. A parameter with the value None selects the pipeline's default.

    The endpoint /v1/models lists the parameters that a model accepts, and the model's bounds for the parameters. The
    bounds of a model may be narrower than the bounds in this class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    true_cfg_scale: float | None = Field(
        default=None,
        ge=1,
        le=100,
        allow_inf_nan=False,
        description="Scale of classifier-free guidance with a negative prompt, for guidance-distilled models such as "
        "Flux and for Qwen-Image. A value above 1 requires `negative_prompt`, which may be empty text, and runs the "
        "model twice per step. The value 1 turns this guidance off.",
    )
    guidance_rescale: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much the guided prediction is rescaled to the standard deviation of the prediction for the "
        "prompt (arXiv 2305.08891), against overexposed results. The value 0 turns this off.",
    )
    max_sequence_length: Annotated[int, Field(ge=1, le=MAX_UINT32), BeforeValidator(parse_integer)] | None = Field(
        default=None,
        description="Maximum number of tokens of a prompt that the text encoder reads. The encoders of CLIP always "
        "read at most 77.",
    )
    clip_skip: Annotated[int, Field(ge=0, le=MAX_UINT32), BeforeValidator(parse_integer)] | None = Field(
        default=None,
        description="Number of layers at the end of the CLIP text encoders that are skipped for the embeddings of the "
        "prompt.",
    )

    @property
    def given(self) -> dict[str, int | float]:
        """The values of the parameters that are not None, by name."""
        return {name: value for name, value in self if value is not None}


def _require_few_entries(value: object) -> object:
    """Return `value`.

    Raises PydanticCustomError if `value` is a dictionary with more than _MAX_ENTRIES entries. With more entries,
    creating the error messages would take too long.
    """
    if isinstance(value, dict) and len(value) > _MAX_ENTRIES:
        raise PydanticCustomError("extra", f"should have at most {_MAX_ENTRIES} entries")
    return value


def _none_if_empty(extra: ExtraParameters | None) -> ExtraParameters | None:
    return extra if extra is not None and extra.given else None


OptionalExtra = Annotated[ExtraParameters | None, BeforeValidator(_require_few_entries), AfterValidator(_none_if_empty)]
"""Type of the request field `extra`. An object without values becomes None."""

INTEGER_EXTRAS = ("max_sequence_length", "clip_skip")
"""Names of the extra parameters that are integers. The values of the other extra parameters are floating-point
numbers."""
