"""A matrix that converts latents to approximate RGB values, so that a client can show previews without a VAE.

The matrix is published next to the latent-space map. The hash of the map does not depend on the matrix.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codec_wire.errors import InvalidMap, truncated_repr
from codec_wire.latents import MAX_VALUES

MAX_RGB_BYTES = 256 * 1024
"""Maximum size in bytes of the JSON document of a matrix. The document for 128 channels has 10 KiB."""
MAX_VALUE = 65504.0
"""Magnitude to which the values of latents are clamped. This number is the largest finite fp16 number."""

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Colour = tuple[_Finite, _Finite, _Finite]


class LatentRgb(BaseModel):
    """A linear function that converts the values of a latent cell to the mean colour of the cell's pixels.

    The colour is approximate.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_space: str = Field(description="Id of the latent space.")
    matrix: tuple[_Colour, ...] = Field(
        min_length=1, max_length=MAX_VALUES, description="For each latent channel, its weights for red, green and blue."
    )
    bias: _Colour = Field(
        description="Red, green and blue of a cell whose latents are all 0. The colour of any cell is `bias` plus the "
        "sum of its channels times their weights, clamped to the range from 0 (black) to 1 (full intensity)."
    )

    @classmethod
    def parse(cls, document: bytes) -> "LatentRgb":
        """Return the matrix in a JSON document. Raises InvalidMap if the document is not valid."""
        try:
            return cls.model_validate_json(document)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "document"
            raise InvalidMap(
                f"latent-to-RGB matrix: {key}: {first['msg']}, got {truncated_repr(first['input'])}"
            ) from None

    def serialize(self) -> bytes:
        """Return the matrix as a JSON document."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    def to_rgb(self, latents: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Convert latents [..., C, h, w] to approximate colours, with one pixel for each latent cell.

        The result is an array [..., h, w, 3] of uint8.

        Raises ValueError if the latents and the matrix have different numbers of channels.
        """
        channels = len(self.matrix)
        if latents.ndim < 3 or latents.shape[-3] != channels:
            raise ValueError(f"latents must have the shape [..., {channels}, h, w], got {list(latents.shape)}")
        # Values that are not finite, as a broken model generates them, must not become warnings.
        cells = np.nan_to_num(np.moveaxis(latents.astype(np.float32), -3, -1)).clip(-MAX_VALUE, MAX_VALUE)
        colours = cells @ np.array(self.matrix, np.float32) + np.array(self.bias, np.float32)
        return (colours.clip(0, 1) * 255).round().astype(np.uint8)
