"""Has a model make latents to calibrate its latent-space map with."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from core.decoder import LatentDecoder
from core.engine import Frame, Job
from core.plan import plan
from core.request import GenerationRequest
from core.service import Served


def default_prompts() -> list[str]:
    """Return prompts of many kinds, one a line in core/maps/prompts.txt."""
    return resources.files("core.maps").joinpath("prompts.txt").read_text().splitlines()


async def sample_latents(
    served: Served, prompts: Sequence[str], count: int, on_image: Callable[[int], None]
) -> list[NDArray[np.float16]]:
    """Return `count` latents [channels, height, width] of the served model's own size, as fp16, prompt after prompt.

    The seed is the image's number, so that the same model gives the same latents. `on_image` is called with the
    number of images done. Raises what the engine raises.
    """
    latents: list[NDArray[np.float16]] = []
    for number in range(count):
        request = GenerationRequest(
            prompt=prompts[number % len(prompts)],
            seed=number,
            pipeline="raw",
            modality=served.model.modalities[0],
        )
        wanted = plan(request, served.bundle, served.model)
        decoder = LatentDecoder(wanted.header)
        async with aclosing(served.engine.generate(wanted, Job())) as events:
            latents += [
                decoder.decode(event.frame).astype(np.float16) async for event in events if isinstance(event, Frame)
            ]
        on_image(number + 1)
    return latents
