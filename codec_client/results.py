"""Return types of the client's methods."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codec_wire.latents import LatentStreamHeader, Modality

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Generation:
    """The complete latents of a generation, or of an encoded image or video.

    Attributes:
        header: The stream header.
        latents: Array [latent frames, C, h, w]. The dtype is float16 or float32 for the encoding pipeline `raw`, and
            float32 for the other encoding pipelines. The latents are not yet divided by the map's vae_scale_factor.
            decode_to_images divides the latents by vae_scale_factor.
        map_hash: Hash ("sha256:<hex>") of the map that describes the latent space, or None if the server sent no hash.
        parameters: The parameters of the request including defaults, but without prompts and images. The device, number
            of CPU threads and library versions of the server process are included in `parameters`. The mapping
            `parameters` is empty if the latents were encoded from a file, or if the server sent no parameters.

    """

    header: LatentStreamHeader
    latents: NDArray[Any]
    map_hash: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DecodedPixels:
    """The pixels that a server decoded.

    Attributes:
        frames: Array [frames, H, W, 3] of uint8. An image has one frame.
        map_hash: Hash ("sha256:<hex>") of the latent-space map that describes the VAE, or None if the server sent no
            hash.

    """

    frames: NDArray[np.uint8]
    map_hash: str | None

    def images(self) -> "list[Image]":
        """Return the frames as PIL images."""
        from PIL import Image  # noqa: PLC0415 - importing codec_client needs no Pillow

        return [Image.fromarray(pixels) for pixels in self.frames]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server serves.

    Attributes:
        name: The model's name, usually its Hugging Face Hub id.
        aliases: Other names that requests may use for the model.
        modalities: Modalities that the model can generate. The tuple `modalities` is empty if the server only decodes
            and encodes.
        latent_space: Id of the model's latent space.
        map_hash: Hash ("sha256:<hex>") of the model's latent-space map.

    """

    name: str
    aliases: tuple[str, ...]
    modalities: tuple[Modality, ...]
    latent_space: str
    map_hash: str
