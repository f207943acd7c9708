"""The request field `loras`, which names the LoRA weights that one request adds to the model."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_LORAS = 8
"""Maximum number of LoRAs in one request."""
MAX_NAME_CHARACTERS = 128
"""Maximum number of characters in the name of a LoRA."""
MAX_SCALE = 10.0
"""Maximum absolute value of the scale of a LoRA."""
DEFAULT_SCALE = 1.0


class RequestLora(BaseModel):
    """Name of LoRA weights that the server has, and the factor by which the LoRA weights are multiplied."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(
        min_length=1, max_length=MAX_NAME_CHARACTERS, description="Name of the LoRA weights, as /v1/models lists it."
    )
    scale: float = Field(
        default=DEFAULT_SCALE,
        ge=-MAX_SCALE,
        le=MAX_SCALE,
        allow_inf_nan=False,
        description="Factor by which the LoRA weights are multiplied. 0 has no effect.",
    )


def _as_loras(value: object) -> object:
    """Return the list `value` as a tuple. Raises PydanticCustomError if the list is too long or repeats a name."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, dict | RequestLora) for one in value):
        raise PydanticCustomError("loras", "should be a list of objects with name and scale")
    if len(value) > MAX_LORAS:
        raise PydanticCustomError("loras", f"should have at most {MAX_LORAS} entries")
    names = [one.name if isinstance(one, RequestLora) else one.get("name") for one in value]
    if any(name in names[:index] for index, name in enumerate(names)):
        raise PydanticCustomError("loras", "should name each LoRA only once")
    return tuple(value)


_SCHEMA: dict[str, Any] = {"type": "array", "maxItems": MAX_LORAS, "items": RequestLora.model_json_schema()}
RequestLoras = Annotated[tuple[RequestLora, ...], BeforeValidator(_as_loras), WithJsonSchema(_SCHEMA)]
"""Type of the request field `loras`."""


def to_json(loras: Iterable[RequestLora]) -> list[dict[str, str | float]]:
    """Return `loras` as the list that JSON requests and generation parameters contain."""
    return [{"name": lora.name, "scale": lora.scale} for lora in loras]
