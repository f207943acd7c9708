"""What a row of the family table says."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from codec_wire.latents import Modality
from core.model import GenerationMode
from core.plan import StreamPlan

Frames = Callable[[Any, Any, StreamPlan], Tensor]
"""From (pipeline, what `output_type="latent"` returned, plan) to [frames, channels, height, width]."""

TEXT = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}
"""What most pipelines take: the plan's field, and the argument that it becomes."""
TEXT_VIDEO = {**TEXT, "pictures": "num_frames"}


def _one(_pipeline: Any) -> int:
    return 1


def _as_it_is(_pipeline: Any, _plan: StreamPlan) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a loaded pipeline says of its latents.

    `channels` of a latent; `spatial`, pixels per cell along a side; `patch`, cells that sides must be a multiple of;
    `default_size`, (width, height) in pixels; `temporal`, pictures per latent frame after the first; `group`, latent
    frames that must come together after the first.
    """

    default_size: Callable[[Any], tuple[int, int]]
    channels: Callable[[Any], int] = lambda pipeline: int(pipeline.vae.config.latent_channels)
    spatial: Callable[[Any], int] = lambda pipeline: int(pipeline.vae_scale_factor)
    patch: Callable[[Any], int] = _one
    temporal: Callable[[Any], int] = _one
    group: int = 1


@dataclass(frozen=True, slots=True)
class Family:
    """One row.

    `pipeline_class` is the class in diffusers; `form` what a request must bring for it; `arguments` maps fields of the
    plan to arguments of the call, `fixed` are further ones; `frames` turns what comes back into
    [frames, channels, height, width], scaled as the VAE's row in `pixels.VAE_DECODERS` undoes it; `load_arguments` goes to
    `from_pretrained`; `beside` names the rows whose pipelines can be made of the same parts; `around` is entered with
    (pipeline, plan) for the time of a call.
    """

    pipeline_class: str
    form: GenerationMode
    frames: Frames
    geometry: Geometry
    arguments: Mapping[str, str] = field(default_factory=lambda: TEXT)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    load_arguments: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    around: Callable[[Any, StreamPlan], AbstractContextManager[None]] = _as_it_is
    legacy_callback: bool = False
    """Whether steps are told to `callback(index, timestep, latents)`, as before diffusers 0.22."""

    @property
    def modality(self) -> Modality:
        """What it makes."""
        return self.form.modality
