"""Short test work that a model must complete before it is served, and again after its device has failed."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.request import DEFAULT_STRENGTH, GenerationRequest
from core.model import ModelInfo
from core.plan import plan
from core.probe import probe_request
from core.role import Role

if TYPE_CHECKING:
    from core.diffusers_engine.loader import LoadedModel

WARM_UP_STEPS = range(2, 6)
"""Numbers of sampling steps of the warm-up generation: the smallest that the scheduler accepts. The first step differs
from the others, so there are at least two."""
WARM_UP_LATENT_SIZE = 8
"""Height and width of the latent of the warm-up generation: the smallest that every level of a UNet can halve."""


def warm_ups(
    model: "LoadedModel", bundle: LatentMapBundle, role: Role, only: Modality | None
) -> list[Callable[[], None]]:
    """Return functions for the device thread that raise ModelLoadError if the model does not work.

    They generate for every modality, or for `only` one. A decoder decodes and encodes instead.
    """
    from core.diffusers_engine import engine, vae_engine  # noqa: PLC0415 - imports torch

    if role is Role.DECODER:
        return [partial(vae_engine.warm_up, model, WARM_UP_LATENT_SIZE)]
    info = model.info
    modalities = info.modalities if only is None else [one for one in info.modalities if one is only]
    return [partial(engine.warm_up, model, plan(_request(info, one), bundle, info)) for one in modalities]


def _request(model: ModelInfo, modality: Modality) -> GenerationRequest:
    side, mode, accepts = model.size_multiple * WARM_UP_LATENT_SIZE, model.modes_of(modality)[0], model.accepts_steps
    strength = DEFAULT_STRENGTH if mode.strength else None
    accepted = (steps for steps in WARM_UP_STEPS if accepts is None or accepts(mode, steps, strength))
    steps = next(accepted, WARM_UP_STEPS[-1])
    return probe_request(model, modality, "warm-up", 0, mode, size=(side, side), steps=steps)
