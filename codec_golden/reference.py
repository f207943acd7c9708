"""The model that golden latents and pixels come from, on its own thread, as the server runs it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import torch

from codec_golden.fixtures import Fixture
from codec_golden.manifest import Environment
from codec_golden.storage import Latents, Pixels
from codec_maps.model_map import map_from_model
from codec_pixels.device import Device
from codec_pixels.vae import decode_latents
from codec_wire.decoder import LatentDecoder
from codec_wire.events import Frame, Step
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import load
from core.diffusers_engine.sources import model_sources
from core.engine import Event, Job
from core.plan import plan
from core.settings import Settings

Progress = Callable[[int, int], None]
"""Called with the number of steps done and of those there are."""


class ReferenceModel:
    """A loaded pipeline: makes latents by the engine that serves them, and pixels by the VAE that goes with them."""

    def __init__(self, settings: Settings) -> None:
        """Load the model that the settings name. Raises ModelLoadError, InvalidSettings."""
        self._settings = settings
        self._device = Device.from_settings(settings.device, settings.dtype, settings.threads)
        self._thread = self._device.new_executor()
        self._model = self._thread.submit(load, model_sources(settings)[0], self._device).result()
        self.info = self._model.info
        self.vae_class = self._model.vae_class
        self.vae_scale_factor = self._model.vae_scale_factor

    @property
    def environment(self) -> Environment:
        """What the latents and pixels of this process depend on."""
        capability = torch.backends.cpu.get_cpu_capability()
        return Environment.of(str(self._device), self._device.threads, capability, self._settings.image_digest)

    @property
    def torch_device(self) -> Any:
        """The torch device it computes on."""
        return self._device.torch_device

    def latents(self, fixture: Fixture, on_step: Progress) -> Latents:
        """Return the latents of `fixture`, fp16 [frames, C, h, w], as the server would send them by `raw`.

        Raises InvalidRequest for a fixture that the model cannot make, and what sampling raises.
        """
        return asyncio.run(self._sample(fixture, on_step))

    async def _sample(self, fixture: Fixture, on_step: Progress) -> Latents:
        bundle = map_from_model(self.info, self.vae_scale_factor, self.vae_class)
        wanted = plan(fixture.request, bundle, self.info)
        decoder, frames = LatentDecoder(wanted.header), []
        engine = DiffusersEngine(self._model, self._thread)
        events: AsyncGenerator[Event, None] = engine.generate(wanted, Job())
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Step):
                    on_step(event.index, event.total)
                elif isinstance(event, Frame):
                    frames.append(decoder.decode(event.frame))
        return np.stack(frames).astype(np.float16)

    def pixels(self, latents: Any) -> Pixels:
        """Return the pictures of latents as they travel, [frames, C, h, w]. Raises ModelLoadError."""
        return self._thread.submit(decode_latents, self._model.pipeline.vae, latents).result()

    def close(self) -> None:
        """Let go of the thread and the pipeline."""
        self._thread.shutdown()
