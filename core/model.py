"""What a loaded model is, as far as requests and clients are concerned."""

from dataclasses import dataclass, field

from codec_wire.latents import Modality


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may ask for at most. Sides in pixels; `max_frames` counts pictures."""

    max_side: int = 2048
    max_steps: int = 250
    max_frames: int = 720
    max_prompt_characters: int = 8192


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask a model: what it makes, and what must come beside the prompt for it to be made so."""

    modality: Modality
    image: bool = False
    control_image: bool = False
    strength: bool = False
    """Whether `strength` means something: how far the result may be from the image."""
    negative_prompt: bool = True
    """Whether a negative prompt is heeded."""

    def __str__(self) -> str:
        pictures = [name for name in ("image", "control_image") if getattr(self, name)]
        return f"{self.modality} from {' and '.join(('a prompt', *pictures))}"


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA weights that a model was loaded with, and how strongly they count."""

    name: str
    scale: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model: its names, its latent space and the sizes it takes.

    `spatial_factor` is pixels per latent cell along each side; `default_size` is (width, height) in pixels; `renders`
    says whether its latents can be made into pixels here: not behind a gateway, and not with every VAE. The first
    latent frame of a video holds one picture, each later one `temporal_factor`; the pictures that may be asked for
    are 1 more than a multiple of `frame_multiple`. `forms` are the ways to ask it; none given means that a prompt
    alone makes each of its modalities.
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
    temporal_factor: int = 1
    frame_multiple: int = 1
    forms: tuple[Form, ...] = ()
    loras: tuple[Lora, ...] = ()

    def answers_to(self, name: str) -> bool:
        """Return whether a request for `name` means this model."""
        return name == self.name or name in self.aliases

    def forms_of(self, modality: Modality) -> tuple[Form, ...]:
        """Return the ways to ask for that modality."""
        forms = self.forms or tuple(Form(made) for made in self.modalities)
        return tuple(form for form in forms if form.modality is modality)

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return the latent shape [C, H/f, W/f] of a picture of that size in pixels."""
        return (self.latent_channels, height // self.spatial_factor, width // self.spatial_factor)

    def latent_frames(self, pictures: int) -> int:
        """Return the number of latent frames that hold `pictures` pictures, 1 more than a multiple allowed."""
        return 1 + (pictures - 1) // self.temporal_factor
