"""Has a model make latents to calibrate its latent-space map with."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.decoder import LatentDecoder
from core.engine import Frame, Job
from core.latents import Modality
from core.model import ModelInfo
from core.plan import plan
from core.request import GenerationRequest
from core.sample_picture import sample_picture
from core.service import Served


def default_prompts() -> list[str]:
    """Return prompts of many kinds, one a line in core/maps/prompts.txt."""
    return resources.files("core.maps").joinpath("prompts.txt").read_text().splitlines()


PROBE_FRAMES = 9
"""Pictures of a video that is made to see what latents are like: enough for every temporal compression there is."""


def probe(model: ModelInfo, modality: Modality, prompt: str, seed: int, **fields: Any) -> GenerationRequest:
    """Return a request that `model` can serve: with pictures where it needs some, and short where it is a video.

    `fields` are further fields of the request.
    """
    form = model.forms_of(modality)[0]
    longest = model.limits.max_frames - (model.limits.max_frames - 1) % model.frame_multiple
    return GenerationRequest(
        prompt=prompt,
        seed=seed,
        modality=modality,
        image=sample_picture(seed) if form.image else None,
        control_image=sample_picture(seed + 1) if form.control_image else None,
        frames=min(_at_least(PROBE_FRAMES, model.frame_multiple), longest) if modality is Modality.VIDEO else None,
        **fields,
    )


def _at_least(frames: int, multiple: int) -> int:
    return 1 + -(-(frames - 1) // multiple) * multiple


async def sample_latents(
    served: Served, prompts: Sequence[str], count: int, on_image: Callable[[int], None]
) -> list[NDArray[np.float16]]:
    """Return `count` latents [channels, height, width] of the served model's own size, as fp16, prompt after prompt.

    The seed is the image's number, so that the same model gives the same latents. `on_image` is called with the
    number of images done. Raises what the engine raises.
    """
    latents: list[NDArray[np.float16]] = []
    for number in range(count):
        request = probe(served.model, served.model.modalities[0], prompts[number % len(prompts)], number)
        wanted = plan(request, served.bundle, served.model)
        decoder = LatentDecoder(wanted.header)
        async with aclosing(served.engine.generate(wanted, Job())) as events:
            latents += [
                decoder.decode(event.frame).astype(np.float16) async for event in events if isinstance(event, Frame)
            ]
        on_image(number + 1)
    return latents
