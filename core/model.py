"""Description of a loaded model for clients: the names, latent space, sizes and supported inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from codec_wire.latents import Modality
from codec_wire.request import PLAIN_SYNTAX
from core.extra_field import ExtraField
from core.lora_directory import LoraDirectory


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Upper limits of one request. `max_side` is a number of pixels, and `max_frames` is a number of video frames."""

    max_side: int = 2048
    max_steps: int = 250
    max_frames: int = 720
    max_prompt_characters: int = 8192


INPUT_FIELDS = ("image", "control_image", "mask")
"""Names of the request fields that contain images.

In modes that support latents, the field `latents` can replace the field `image`.
"""


@dataclass(frozen=True, slots=True)
class GenerationMode:
    """One supported combination of an output modality and required inputs."""

    modality: Modality
    image: bool = False
    """Whether the request must contain an input image."""
    control_image: bool = False
    """Whether the request must contain a ControlNet conditioning image."""
    mask: bool = False
    """Whether the request must contain an inpainting mask."""
    strength: bool = False
    """Whether the field `strength` is supported.

    The field `strength` determines how much of the input image is changed.
    """
    negative_prompt: bool = True
    """Whether a negative prompt is supported."""
    guidance_scale: bool = True
    """Whether a guidance scale is supported.

    In a gateway, the value is True, because the upstream server checks the guidance scale.
    """
    guidance_of_negative_prompt: bool = False
    """Whether the guidance scale has an effect only if the request has a negative prompt.

    In a gateway, the value is False, because the upstream server checks the guidance scale.
    """
    latents: bool = False
    """Whether the request may contain `latents` instead of the input image."""
    latents_only: bool = False
    """Whether the input image must be sent as `latents`, because the VAE that encodes images is not loaded."""
    previews: bool = False
    """Whether previews can be sent while sampling."""
    extra: tuple[ExtraField, ...] = ()
    """The extra parameters that are accepted, with their bounds."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the image fields that a request must contain, in the order of INPUT_FIELDS."""
        return tuple(name for name in INPUT_FIELDS if getattr(self, name))

    def __str__(self) -> str:
        images = list(self.inputs)
        if self.latents_only:
            images[0] = "latents"
        return f"{self.modality} from {' and '.join(('a prompt', *images))}"


StepCheck = Callable[[GenerationMode, int, float | None], bool]
"""Thread-safe function of (mode, number of steps, strength) that returns whether the scheduler can run these steps.

For a mode without strength, the strength is passed as None.
"""


@dataclass(frozen=True, slots=True)
class Lora:
    """Name and scale of LoRA weights that were added to a model when the model was loaded."""

    name: str
    scale: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Description of one loaded model: the names, latent space, sizes, limits and supported inputs."""

    name: str
    latent_space: str
    """Id of the latent space. Models with the same id of the latent space can share a latent-space map."""
    latent_channels: int
    spatial_factor: int
    """Number of pixels per latent cell along each side."""
    size_multiple: int
    """Width and height in pixels must be multiples of this number."""
    default_size: tuple[int, int]
    """Default size of images and videos, (width, height) in pixels."""
    modalities: tuple[Modality, ...] = (Modality.IMAGE,)
    aliases: tuple[str, ...] = ()
    renders: bool = False
    """Whether this process can decode the latents to pixels.

    `renders` is False in a gateway process, and for a model whose VAE is not supported.
    """
    unproven_pixels: str | None = None
    """Reason why decoded pixels could not be compared with the pixels of the model's diffusers pipelines, or None.

    See `renders`.
    """
    limits: RequestLimits = field(default_factory=RequestLimits)
    max_pixels: int | None = None
    """Maximum number of pixels of a frame that the model can generate, or None if only `limits` apply.

    In a gateway, the value None is used, because the upstream server checks the size.
    """
    has_fixed_size: bool = False
    """Whether the model generates only its default size.

    In a gateway, the value is False, because the upstream server checks the size.
    """
    temporal_factor: int = 1
    """Number of video frames per latent frame. The first latent frame always decodes to one video frame."""
    frame_multiple: int = 1
    """The number of video frames must be 1 more than a multiple of this number."""
    min_frames: int = 1
    """Minimum number of video frames.

    In a gateway, the value is 1, because the upstream server checks the number of frames.
    """
    modes: tuple[GenerationMode, ...] = ()
    """Supported input combinations. If `modes` is empty, each modality is generated from a prompt alone."""
    loras: tuple[Lora, ...] = ()
    schedulers: tuple[str, ...] = ()
    """Names of the schedulers that a request may select.

    The value is () if only the model's own scheduler is available.
    """
    prompt_syntaxes: tuple[str, ...] = (PLAIN_SYNTAX,)
    """Values of `prompt_syntax` that a request may contain."""
    accepts_steps: StepCheck | None = field(default=None, compare=False, repr=False)
    """Function that returns whether the model's scheduler can run a number of steps.

    In a gateway, the value None is used, because the upstream server checks the number of steps.
    """
    scheduler_checks: Mapping[str, StepCheck] = field(default_factory=dict, compare=False, repr=False)
    """Dictionary that maps each name in `schedulers` to a function of the same kind as `accepts_steps`.

    In a gateway, the dictionary is empty.
    """
    request_loras: tuple[str, ...] | None = None
    """Names of the LoRA weights that requests could name when the model was described.

    The value None means that requests must not contain LoRA weights. See `lora_names`.
    """
    lora_directory: LoraDirectory | None = field(default=None, compare=False, repr=False)
    """Directory of the LoRA weights that requests may name.

    In a gateway, the value None is used, because the upstream server has the directory.
    """
    no_loras_reason: str | None = field(default=None, compare=False, repr=False)
    """Reason why requests must not contain LoRA weights.

    The value None means that requests may contain LoRA weights or the reason is unknown.
    """

    def lora_names(self) -> tuple[str, ...] | None:
        """Return the names of the LoRA weights that requests may use, or None if requests must not use LoRA weights."""
        return self.request_loras if self.lora_directory is None else self.lora_directory.names()

    @property
    def all_modes(self) -> tuple[GenerationMode, ...]:
        """The supported input combinations of all modalities."""
        return self.modes or tuple(GenerationMode(supported) for supported in self.modalities)

    def modes_of(self, modality: Modality) -> tuple[GenerationMode, ...]:
        """Return the supported input combinations for `modality`."""
        return tuple(mode for mode in self.all_modes if mode.modality is modality)

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return the latent shape [C, h, w] of one frame with `width` x `height` pixels."""
        return (self.latent_channels, height // self.spatial_factor, width // self.spatial_factor)

    def latent_frames(self, num_frames: int) -> int:
        """Return the number of latent frames of a video.

        `num_frames` is the number of video frames and must be 1 more than a multiple of `frame_multiple`.
        """
        return 1 + (num_frames - 1) // self.temporal_factor

    def nearest_num_frames(self, num_frames: int) -> int:
        """Return the supported number of video frames that is nearest to `num_frames`.

        The result is at least `min_frames` and at most `limits.max_frames`.

        If two supported numbers are equally near to `num_frames`, return the larger number.
        """
        multiple, limit = self.frame_multiple, self.limits.max_frames
        nearest = max(self.min_frames, 1 + max(0, int((num_frames - 1) / multiple + 0.5)) * multiple)
        return min(nearest, limit - (limit - 1) % multiple)
