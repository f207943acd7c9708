"""What a loaded model is, as far as requests and clients are concerned."""

from dataclasses import dataclass, field

from core.latents import Modality


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may ask for at most. Sides in pixels."""

    max_side: int = 2048
    max_steps: int = 250
    max_frames: int = 720
    max_prompt_characters: int = 8192


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model: its names, its latent space and the sizes it takes.

    `spatial_factor` is pixels per latent cell along each side; `default_size` is (width, height) in pixels; `renders`
    says whether its latents can be made into pixels here: not behind a gateway, and not with every VAE.
    """

    name: str
    latent_space: str
    latent_channels: int
    spatial_factor: int
    size_multiple: int
    default_size: tuple[int, int]
    modalities: tuple[Modality, ...] = (Modality.IMAGE,)
    aliases: tuple[str, ...] = ()
    renders: bool = False
    limits: RequestLimits = field(default_factory=RequestLimits)

    def answers_to(self, name: str) -> bool:
        """Return whether a request for `name` means this model."""
        return name == self.name or name in self.aliases

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return the latent shape [C, H/f, W/f] of a picture of that size in pixels."""
        return (self.latent_channels, height // self.spatial_factor, width // self.spatial_factor)
