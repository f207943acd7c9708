"""An engine that yields seeded noise without a model, so that decoding errors show in the values."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from codec_wire.encoder import LatentEncoder
from codec_wire.events import Frame, Started
from core.engine import Event, Job
from core.plan import StreamPlan


class NoiseEngine:
    """An engine whose frames are a random walk of normal noise from the seed of the request.

    A generation takes `seconds` in addition to its computations.
    """

    def __init__(self, seconds: float = 0) -> None:
        self._seconds = seconds

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """See core.engine.Engine."""
        yield Started(plan.header)
        await asyncio.sleep(self._seconds)
        rng = np.random.default_rng(plan.seed)
        latent = rng.standard_normal(plan.header.shape)
        encoder = LatentEncoder(plan.header)
        for seq in range(plan.latent_frames):
            latent = latent + 0.1 * rng.standard_normal(plan.header.shape)
            values = latent.astype(np.float16)
            yield Frame(encoder.encode(values, keyframe=plan.is_keyframe(seq), last=seq == plan.latent_frames - 1))
