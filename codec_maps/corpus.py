"""Generation of the samples of latents from which a latent-space map is built."""

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
from core.probe import probe_request
from core.served import ModelInstance

log = logging.getLogger(__name__)

HELD_OUT_EVERY = 4
"""One sample in every HELD_OUT_EVERY samples is held out. Held-out samples are used only to evaluate scales and
dictionaries."""
FIXTURE_SIDES = (256, 512)
"""Side lengths in pixels of the square images for which body sizes are published."""
MAX_ENLARGEMENT = 4
"""Maximum number of pixels of a sample, relative to the number of pixels at the model's default size.

Sizes above this limit are skipped, because large samples would take most of the generation time.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The request and the latent frames of one generation, fp16 [channels, height, width]."""

    request: GenerationRequest
    latents: Sequence[NDArray[np.float16]]
    held_out: bool


def default_prompts() -> list[str]:
    """Return the prompts of codec_maps/prompts.txt, which cover many subjects."""
    return resources.files("codec_maps").joinpath("prompts.txt").read_text().splitlines()


def corpus_sizes(model: ModelInfo) -> list[tuple[int, int]]:
    """Return the sizes of the samples as (width, height) in pixels.

    The sizes are the model's default size, squares and a landscape size.
    """
    width, height = model.default_size
    multiple = model.size_multiple
    candidates = [(side, side) for side in FIXTURE_SIDES] + [(width * 3 // 2 // multiple * multiple, height)]
    return [model.default_size] + [
        size
        for size in candidates
        if size != model.default_size
        and not any(side % multiple for side in size)
        and max(size) <= model.limits.max_side
        and size[0] * size[1] <= MAX_ENLARGEMENT * width * height
    ]


def corpus_requests(model: ModelInfo, prompts: Sequence[str], count: int) -> list[tuple[GenerationRequest, bool]]:
    """Return `count` requests, each with a flag that states whether the sample of the request is held out.

    The requests have the encoding pipeline `raw` and are divided evenly among the model's modalities. Every second
    request has the model's default size. The requests that do not have the default size use the remaining sizes in
    turn. If there are at least HELD_OUT_EVERY prompts, no prompt is used both by a held-out request and by a request
    that is not held out. The seed of a request is the index of the request, so that the result depends only on the
    arguments.
    """
    others = corpus_sizes(model)[1:] or [model.default_size]
    separate = len(prompts) >= HELD_OUT_EVERY
    held_out_prompts = [prompt for index, prompt in enumerate(prompts) if _is_held_out(index)]
    training_prompts = [prompt for index, prompt in enumerate(prompts) if not _is_held_out(index)]
    requests = []
    for seed in range(count):
        modality = model.modalities[seed * len(model.modalities) // count]
        held_out = _is_held_out(seed)
        number = seed // HELD_OUT_EVERY if held_out else seed - seed // HELD_OUT_EVERY
        choice = (held_out_prompts if held_out else training_prompts) if separate else prompts
        size = model.default_size if number % 2 == 0 else others[number // 2 % len(others)]
        prompt = choice[number % len(choice)]
        requests.append((probe_request(model, modality, prompt, seed, pipeline="raw", size=size), held_out))
    return requests


def _is_held_out(index: int) -> bool:
    return index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1


async def generate_corpus(
    served: ModelInstance, prompts: Sequence[str], count: int, on_sample: Callable[[int], None]
) -> list[Sample]:
    """Return the samples that the served model generates from the requests of `corpus_requests`.

    `on_sample` is called with the number of finished requests. A size other than the model's default is skipped if the
    device runs out of memory. Raises the same errors as Engine.generate.
    """
    samples = []
    for number, (request, held_out) in enumerate(corpus_requests(served.model, prompts, count), 1):
        try:
            samples.append(Sample(request, await generate_latents(served, request), held_out))
        except OutOfMemory as error:
            if request.size == served.model.default_size:
                raise
            log.warning("skipped a calibration sample: %s", error)
        on_sample(number)
    return samples


async def generate_latents(served: ModelInstance, request: GenerationRequest) -> list[NDArray[np.float16]]:
    """Return the latent frames of one generation, fp16 [channels, height, width].

    Raises the errors of Engine.generate.
    """
    stream = plan(request, served.bundle, served.model)
    decoder = LatentDecoder(stream.header)
    async with aclosing(served.require_engine().generate(stream, Job())) as events:
        return [decoder.decode(event.frame).astype(np.float16) async for event in events if isinstance(event, Frame)]
