"""A VAE that receives and returns plain tensors, for clients that specify the scaling of the latents."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from codec_wire.latents import Modality
from core.engine import Job
from core.input_image import InputImage

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
"""Dictionary that maps the name of a torch dtype to the size of one value in bytes."""


@dataclass(frozen=True, slots=True)
class TensorData:
    """A tensor that consists of little-endian values in C order, a shape, and the name of a torch dtype."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str

    def __repr__(self) -> str:
        return f"TensorData({self.dtype} {list(self.shape)})"


class PixelLayout(StrEnum):
    """Layout, range and dtype of decoded pixels."""

    VAE = "vae"
    """The unchanged output of the VAE, with values of about -1 to 1, in the dtype of the VAE.

    The shape is [B, 3, H, W], or [B, 3, F, H, W] for a video.
    """
    UNIT = "unit"
    """Values from 0 to 1 in the dtype of the VAE, with the shape [N, 3, H, W]."""
    BYTES = "bytes"
    """8-bit values with the dtype uint8 and the shape [N, H, W, 3]."""


@dataclass(frozen=True, slots=True)
class TensorScaling:
    """The factor and the shift with which a VAE scales latents.

    Before decoding, latents are divided by `factor`, then `shift` is added. After encoding, `shift` is subtracted from
    the latents, then the latents are multiplied by `factor`. If `as_pipeline` is set instead of `factor`, the decoder
    scales latents in the same way as the model's diffusers pipeline. The encoder ignores `as_pipeline`.
    """

    factor: float | None = None
    shift: float | None = None
    as_pipeline: bool = False


class TensorVae(Protocol):
    """Interface of a VAE that decodes tensors of latents and encodes tensors of pixels.

    The VAE of a diffusers pipeline in this process implements this interface.
    """

    async def decode_tensor(
        self, latents: TensorData, scaling: TensorScaling, layout: PixelLayout, job: Job
    ) -> TensorData:
        """Decode latents [B, C, h, w] or [1, C, F, h, w] to pixels. Raises a CodecError if decoding fails."""

    async def encode_tensor(self, pixels: TensorData | InputImage, scaling: TensorScaling, job: Job) -> TensorData:
        """Encode an image file or pixels to latents.

        Pixels have values in [-1, 1] and the shape [B, 3, H, W], or [1, 3, F, H, W] for a video.

        The result is the mode (the most probable value) of the VAE's latent distribution, so the result is
        deterministic. Raises InvalidRequest if the image file is broken, and another CodecError if encoding fails for
        another reason.
        """


def modality_of_shape(shape: tuple[int, ...]) -> Modality:
    """Return VIDEO if `shape` has the five dimensions [B, C, F, h, w], otherwise IMAGE."""
    return Modality.VIDEO if len(shape) == 5 else Modality.IMAGE
