"""An engine that makes seeded noise at once: numbers that a decoder can get wrong, without a model."""

from collections.abc import AsyncGenerator

import numpy as np

from codec_wire.encoder import LatentEncoder
from codec_wire.events import Frame, Started
from core.engine import Event, Job
from core.plan import StreamPlan


class NoiseEngine:
    """Makes frames of normal noise, each near the one before it, by the request's seed."""

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """See core.engine.Engine."""
        yield Started(plan.header)
        rng = np.random.default_rng(plan.seed)
        latent = rng.standard_normal(plan.header.shape)
        encoder = LatentEncoder(plan.header)
        for seq in range(plan.frames):
            latent = latent + 0.1 * rng.standard_normal(plan.header.shape)
            values = latent.astype(np.float16)
            yield Frame(encoder.encode(values, keyframe=plan.is_keyframe(seq), last=seq == plan.frames - 1))
