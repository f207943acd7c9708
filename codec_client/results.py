"""What client methods return."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from codec_wire.latents import LatentStreamHeader, Modality


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole answer: `latents` is [frames, C, h, w], as they travel; `map_hash` names the map that decodes them."""

    header: LatentStreamHeader
    latents: NDArray[Any]
    map_hash: str | None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server runs, the other names it answers to, and the map (sha256:<hex>) that decodes it."""

    name: str
    aliases: tuple[str, ...]
    modalities: tuple[Modality, ...]
    latent_space: str
    map_hash: str
