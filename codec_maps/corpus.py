"""Has a model make latents to make its latent-space map with."""

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from codec_wire.decoder import LatentDecoder
from codec_wire.errors import OutOfMemory
from codec_wire.events import Frame
from codec_wire.request import GenerationRequest
from core.engine import Job
from core.model import ModelInfo
from core.plan import plan
from core.probe import probe
from core.served import ModelInstance

log = logging.getLogger(__name__)

HELD_OUT_EVERY = 4
"""One sample in so many is held out: nothing is chosen by it, and what was chosen is judged by it."""
FIXTURE_SIDES = (256, 512)
"""Sides in pixels of the squares that the published sizes of bodies are for."""
MAX_ENLARGEMENT = 4
"""A size of more than so many times the model's own pixels is left out: it would take most of the time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One generation: what was asked for, and its frames [channels, height, width]."""

    request: GenerationRequest
    latents: Sequence[NDArray[np.float16]]
    held_out: bool


def default_prompts() -> list[str]:
    """Return prompts of many kinds, one a line in codec_wire/maps/prompts.txt."""
    return resources.files("codec_maps").joinpath("prompts.txt").read_text().splitlines()


def corpus_sizes(model: ModelInfo) -> list[tuple[int, int]]:
    """Return (width, height) in pixels of what is generated: the model's own, the fixtures', and a landscape."""
    width, height = model.default_size
    multiple = model.size_multiple
    wanted = [(side, side) for side in FIXTURE_SIDES] + [(width * 3 // 2 // multiple * multiple, height)]
    return [model.default_size] + [
        size
        for size in wanted
        if size != model.default_size
        and not any(side % multiple for side in size)
        and max(size) <= model.limits.max_side
        and size[0] * size[1] <= MAX_ENLARGEMENT * width * height
    ]


def corpus_requests(model: ModelInfo, prompts: Sequence[str], count: int) -> list[tuple[GenerationRequest, bool]]:
    """Return `count` requests for latents as they are, shared among the model's modalities, and which are held out.

    Every second one is of the model's own size, the others take turns. Held-out ones have prompts of their own, where
    there are enough, and always seeds of their own. The seed is the request's number: the same model gives the same.
    """
    others = corpus_sizes(model)[1:] or [model.default_size]
    apart = len(prompts) >= HELD_OUT_EVERY
    held = [prompt for number, prompt in enumerate(prompts) if number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1]
    used = [prompt for number, prompt in enumerate(prompts) if number % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    requests = []
    for seed in range(count):
        modality = model.modalities[seed * len(model.modalities) // count]
        held_out = seed % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        number = seed // HELD_OUT_EVERY if held_out else seed - seed // HELD_OUT_EVERY
        choice = (held if held_out else used) if apart else prompts
        size = model.default_size if number % 2 == 0 else others[number // 2 % len(others)]
        prompt = choice[number % len(choice)]
        requests.append((probe(model, modality, prompt, seed, pipeline="raw", size=size), held_out))
    return requests


async def sample_corpus(
    served: ModelInstance, prompts: Sequence[str], count: int, on_image: Callable[[int], None]
) -> list[Sample]:
    """Return what the served model makes of `corpus_requests`, as fp16.

    `on_image` is called with the number of requests done. A size for which there is too little memory is left out,
    unless it is the model's own. Raises what the engine raises.
    """
    samples = []
    for number, (request, held_out) in enumerate(corpus_requests(served.model, prompts, count), 1):
        try:
            samples.append(Sample(request, await generate_latents(served, request), held_out))
        except OutOfMemory as error:
            if request.size == served.model.default_size:
                raise
            log.warning("left out of the corpus: %s", error)
        on_image(number)
    return samples


async def generate_latents(served: ModelInstance, request: GenerationRequest) -> list[NDArray[np.float16]]:
    """Return the frames [channels, height, width] of one generation, as fp16. Raises what the engine raises."""
    wanted = plan(request, served.bundle, served.model)
    decoder = LatentDecoder(wanted.header)
    async with aclosing(served.engine.generate(wanted, Job())) as events:
        return [decoder.decode(event.frame).astype(np.float16) async for event in events if isinstance(event, Frame)]
