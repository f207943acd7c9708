"""Short tests that a model must complete before the model is served, and again after the device has failed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.request import DEFAULT_STRENGTH, GenerationRequest
from core.memory_model import MemoryModel
from core.model import GenerationMode, ModelInfo
from core.plan import plan
from core.probe import probe_request
from core.role import Role

if TYPE_CHECKING:
    from core.diffusers_engine.loader import LoadedModel

WARM_UP_STEPS = range(2, 6)
"""Numbers of sampling steps to try for the warm-up generation.

The smallest number in this range that the scheduler accepts is used. A warm-up has at least two steps, because the
first step differs from all other steps.
"""
WARM_UP_LATENT_SIZE = 8
"""Height and width of the latents of the warm-up generation.

UNets halve the height and the width several times, so the height and the width must be at least 8.
"""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Test functions that run on the device thread and raise ModelLoadError if the model does not work.

    `run` is the warm-up at the start of a server. If `modality` is not None, `run` also measures the memory that a
    generation of this modality needs. `repeat` does the same work as `run`, but does not measure memory.
    """

    run: Callable[[], MemoryModel | None]
    repeat: Callable[[], object]
    modality: Modality | None = None


def warm_ups(model: "LoadedModel", bundle: LatentMapBundle, role: Role, only: Modality | None) -> list[WarmUp]:
    """Return one warm-up of `model` for each modality, or only for the modality `only`.

    If `role` is `decoder`, the warm-ups decode and encode instead of generating.
    """
    from core.diffusers_engine import engine, vae_engine  # noqa: PLC0415 - imports torch

    if role is Role.DECODER:
        decode = partial(vae_engine.warm_up, model, WARM_UP_LATENT_SIZE)
        return [WarmUp(decode, decode)]
    info = model.info
    found = []
    for modality in info.modalities if only is None else [one for one in info.modalities if one is only]:
        small = plan(_request(info, modality), bundle, info)
        # A step is enough to measure memory, if the scheduler accepts that.
        wide = plan(_request(info, modality, width_factor=2, first_steps=1), bundle, info)
        measure = partial(engine.measure_memory, model, small, wide)
        found.append(WarmUp(measure, partial(engine.warm_up, model, small), modality))
    return found


def _request(
    model: ModelInfo, modality: Modality, *, width_factor: int = 1, first_steps: int = WARM_UP_STEPS[0]
) -> GenerationRequest:
    side, mode = model.size_multiple * WARM_UP_LATENT_SIZE, model.modes_of(modality)[0]
    steps = warm_up_steps(model, mode, first_steps)
    return probe_request(model, modality, "warm-up", 0, mode, size=(width_factor * side, side), steps=steps)


def warm_up_steps(model: ModelInfo, mode: GenerationMode, first: int) -> int:
    """Return the smallest number of steps that the scheduler of `model` accepts and that is not less than `first`."""
    accepts, strength = model.accepts_steps, DEFAULT_STRENGTH if mode.strength else None
    candidates = range(first, WARM_UP_STEPS.stop)
    accepted = (steps for steps in candidates if accepts is None or accepts(mode, steps, strength))
    return next(accepted, WARM_UP_STEPS[-1])
