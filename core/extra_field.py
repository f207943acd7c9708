"""Description of an extra parameter that a model accepts (codec_wire.extra)."""

from dataclasses import dataclass
from typing import Literal

from codec_wire.extra import INTEGER_EXTRAS


@dataclass(frozen=True, slots=True)
class ExtraField:
    """An extra parameter that a generation mode of a model accepts, with the bounds and the pipeline's default."""

    name: str
    """Name of the extra parameter, which is also the name of a field of the class ExtraParameters."""
    minimum: float
    maximum: float
    default: float
    """The default value: a request with this value has the same result as a request without the parameter."""
    same_as: str | None = None
    """Name of the request field that sets the same argument of the pipeline, or None.

    A request must not contain both the extra parameter and this request field.
    """

    @property
    def type(self) -> Literal["integer", "number"]:
        """Type of the values in JSON: "integer" or "number"."""
        return "integer" if self.name in INTEGER_EXTRAS else "number"

    def __str__(self) -> str:
        return f"{self.name} ({self.minimum:g} to {self.maximum:g})"
