"""The model that generates golden latents and pixels. The engine of the server runs the model."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import torch

from codec_golden.fixtures import Fixture
from codec_golden.manifest import Environment
from codec_golden.storage import Latents, Pixels
from codec_maps.model_map import map_from_model
from codec_pixels.device import Device
from codec_pixels.fair_queue import BatchLimits
from codec_pixels.vae import decode_latents
from codec_wire.decoder import LatentDecoder
from codec_wire.errors import InvalidSettings
from codec_wire.events import Frame, Step
from core.diffusers_engine.batch import BatchMember
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import load
from core.diffusers_engine.memory_meter import can_measure, measure_peak
from core.diffusers_engine.sampler import sample_batch
from core.diffusers_engine.sources import ModelSource, model_sources
from core.engine import Event, Job
from core.model_selection import select_model
from core.plan import StreamPlan, plan
from core.settings import Settings
from core.switches import Mode

MEASURED_STEPS = 4
"""Number of sampling steps that run to measure the peak memory."""
OnStep = Callable[[int, int], None]
"""Function that is called after each sampling step with the number of finished steps and the total number of steps."""


class ReferenceModel:
    """A loaded diffusers pipeline and its VAE in reference mode. The pipeline and the VAE run on a separate thread.

    Call close() to stop the thread.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the model selected by `settings`.

        Raises ModelLoadError if the model cannot be loaded, and InvalidSettings if a setting is not valid or selects
        fast mode.
        """
        if Mode(settings.mode) is not Mode.REFERENCE:
            raise InvalidSettings(
                f"CODEC_MODE (--mode) is {settings.mode}, but golden fixtures are only generated and evaluated in "
                "reference mode; unset CODEC_MODE"
            )
        self._load(settings, model_sources(settings)[0])

    def _load(self, settings: Settings, source: ModelSource) -> None:
        self._settings = settings
        self._device = Device.from_settings(settings.device, settings.dtype, settings.threads)
        self._thread = self._device.new_executor()
        self._model = self._thread.submit(load, source, self._device).result()
        self.info = self._model.info
        self.vae_class = self._model.vae_class
        self.vae_scale_factor = self._model.vae_scale_factor

    @property
    def environment(self) -> Environment:
        """Properties of this process on which the generated latents and pixels depend."""
        capability = torch.backends.cpu.get_cpu_capability()
        return Environment.of(str(self._model.device), self._device.threads, capability, self._settings.image_digest)

    @property
    def hardware_kind(self) -> str:
        """The kind of hardware that runs the model. See Device.hardware_kind."""
        return self._device.hardware_kind

    @property
    def torch_device(self) -> Any:
        """The torch device of the model."""
        return self._device.torch_device

    @property
    def pipeline(self) -> Any:
        """The diffusers pipeline. Use the pipeline only while no generation runs."""
        return self._model.pipeline

    def latents(self, fixture: Fixture, on_step: OnStep) -> Latents:
        """Return the generated latents of `fixture`, fp16 [frames, C, h, w].

        The latents are equal to the latents that the server sends with the encoding pipeline `raw`. Raises
        InvalidRequest if the model does not support the fixture, or another CodecError if sampling fails.
        """
        return asyncio.run(self._sample(DiffusersEngine(self._model, self._thread), fixture, on_step))

    def latents_of_concurrent(self, fixtures: Sequence[Fixture], on_step: OnStep) -> list[Latents]:
        """Generate `fixtures` as requests that are sent at the same time, and return the latents. See `latents`.

        The switch `batch_size` of fast mode determines how many fixtures are sampled together.
        """

        async def generate() -> list[Latents]:
            limits = BatchLimits(self._model.switches.batch_size, self._settings.batch_window_ms / 1000)
            engine = DiffusersEngine(self._model, self._thread, limits)
            return await asyncio.gather(*(self._sample(engine, one, on_step) for one in fixtures))

        return asyncio.run(generate())

    def plan(self, fixture: Fixture) -> StreamPlan:
        """Return the plan for the latents of `fixture`.

        Raises InvalidRequest, NotFound or UnsupportedModality if the model does not support `fixture`.
        """
        select_model(fixture.request, [self.info])
        return plan(fixture.request, map_from_model(self.info, self.vae_scale_factor, self.vae_class), self.info)

    async def _sample(self, engine: DiffusersEngine, fixture: Fixture, on_step: OnStep) -> Latents:
        stream_plan = self.plan(fixture)
        decoder, frames = LatentDecoder(stream_plan.header), []
        events: AsyncGenerator[Event, None] = engine.generate(stream_plan, Job(reports_steps=True))
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Step):
                    on_step(event.index, event.total)
                elif isinstance(event, Frame):
                    frames.append(decoder.decode(event.frame))
        return np.stack(frames).astype(np.float16)

    def pixels(self, latents: Any) -> Pixels:
        """Return the pixels that the model's VAE decodes from `latents` [frames, C, h, w].

        `latents` are not yet divided by the VAE's scaling factor. Raises ModelLoadError if the class of the VAE is not
        supported.
        """
        model = self._model
        return self._thread.submit(decode_latents, model.pipeline.vae, latents, model.family.pipeline_class).result()

    def peak_memory(self, fixture: Fixture) -> int | None:
        """Return the peak memory in bytes that sampling `fixture` needs in addition to the weights, or None if unknown.

        If fast mode runs batches, the memory of a full batch is returned. Only a few steps run, because all steps need
        the same memory.
        """
        if not can_measure(self._model):
            return None
        stream_plan = self.plan(fixture.model_copy(update={"steps": MEASURED_STEPS}))

        def measure() -> int:
            inputs = decode_inputs(stream_plan)
            members = [
                BatchMember(stream_plan, Job(), inputs, lambda _done, _total: None)
                for _ in range(self._model.switches.batch_size)
            ]
            sample_batch(self._model, members)  # the embeddings of the prompt are stored
            with measure_peak(self._model.device.torch_device) as peak:
                sample_batch(self._model, members)
            return peak.size

        return self._thread.submit(measure).result()

    def close(self) -> None:
        """Stop the thread on which the model runs."""
        self._thread.shutdown()
