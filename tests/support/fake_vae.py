"""A VAE under the test's control: load, order and cancellation are tested without timed sleeps."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import numpy as np

from codec_wire.encoder import LatentEncoder
from codec_wire.events import Frame, Started
from codec_wire.latents import LatentFrame
from core.decode_plan import DecodePlan
from core.encode_plan import EncodePlan
from core.engine import Job
from core.pixel_format import PixelFormat


class FakeVae:
    """A VAE that decodes every latent frame to a grey frame, and encodes every file to zeros.

    Each frame waits for `release_frames`, unless the VAE is `free_running`. If `fail_at` is set, the frame with this
    number raises `failure`.
    """

    def __init__(self, *, free_running: bool = False) -> None:
        self.plans: list[DecodePlan] = []
        self.encode_plans: list[EncodePlan] = []
        self.decoded = 0
        self.closed = asyncio.Event()
        self.fail_at: int | None = None
        self.failure: Exception = RuntimeError("secret detail")
        self._frames = asyncio.Semaphore(0)
        self._free_running = free_running

    def release_frames(self, count: int) -> None:
        """Allow `count` further frames, by any job."""
        for _ in range(count):
            self._frames.release()

    async def decode(self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job) -> AsyncGenerator[bytes, None]:
        """See core.vae_engine.VaeEngine."""
        self.plans.append(plan)
        try:
            for number in range(len(frames)):
                if not self._free_running:
                    await self._frames.acquire()
                if number == self.fail_at:
                    raise self.failure
                self.decoded += 1
                yield bytes([128]) * (plan.width * plan.height * 3 if plan.pixel_format is PixelFormat.RGB else 1000)
        finally:
            self.closed.set()

    async def encode(self, plan: EncodePlan, job: Job) -> AsyncGenerator[Started | Frame, None]:
        """See core.vae_engine.VaeEngine."""
        self.encode_plans.append(plan)
        encoder = LatentEncoder(plan.header)
        try:
            for seq in range(plan.latent_frames):
                if not self._free_running:
                    await self._frames.acquire()
                if seq == self.fail_at:
                    raise self.failure
                if seq == 0:
                    yield Started(plan.header)
                last = seq == plan.latent_frames - 1
                yield Frame(encoder.encode(np.zeros(plan.header.shape), keyframe=plan.is_keyframe(seq), last=last))
        finally:
            self.closed.set()
