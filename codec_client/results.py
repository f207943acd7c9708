"""Return types of the client's methods."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from codec_wire.latents import LatentStreamHeader, Modality


@dataclass(frozen=True, slots=True)
class Generation:
    """A complete generation.

    Attributes:
        header: The stream header.
        latents: Array [latent frames, C, h, w]. float16 or float32 for the pipeline `raw`, float32 for the others.
            The values are scaled, as in the stream; decode_to_images divides by the map's vae_scale_factor.
        map_hash: Hash of the latent-space map that decodes the latents ("sha256:<hex>"); None if the server sent none.

    """

    header: LatentStreamHeader
    latents: NDArray[Any]
    map_hash: str | None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server serves.

    Attributes:
        name: The model's name, usually its Hugging Face Hub id.
        aliases: Other names that requests may use for it.
        modalities: What it can generate.
        latent_space: Id of its latent space.
        map_hash: Hash of its latent-space map ("sha256:<hex>").

    """

    name: str
    aliases: tuple[str, ...]
    modalities: tuple[Modality, ...]
    latent_space: str
    map_hash: str
