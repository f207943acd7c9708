"""A model in fast mode, whose images are compared with the images of reference mode."""

import asyncio
from collections.abc import Sequence

from codec_client.cache import compiled_code_dir
from codec_golden.fixtures import Fixture
from codec_golden.reference import ReferenceModel
from codec_pixels.fair_queue import BatchLimits
from core.diffusers_engine.compilation import compile_denoiser
from core.diffusers_engine.engine import DiffusersEngine
from core.settings import Settings
from core.switches import UNBATCHED_STEP_CACHES, Switches, with_switches

BATCH_WINDOW_S = 0.1
"""Time in seconds for which the first of several concurrent requests waits for the others."""


class FastModel(ReferenceModel):
    """A ReferenceModel with switches of fast mode. Golden fixtures are never generated with this class."""

    def __init__(self, settings: Settings, switches: Switches) -> None:
        """Load the model selected by `settings`.

        Raises ModelLoadError if the model cannot be loaded, and InvalidSettings if the model does not support a switch.
        """
        self._load(with_switches(settings, switches))

    @property
    def switches(self) -> tuple[str, ...]:
        """The switches that are on."""
        return self._model.switches.names

    def compile(self, fixtures: Sequence[Fixture], batch_size: int = 1) -> None:
        """Compile the model for the sizes of `fixtures`, or do nothing if the switch `compile` is off.

        The model is also compiled for batches of `batch_size` images.
        """
        plans = list({one.resolution: self.plan(one) for one in fixtures}.values())
        self._thread.submit(compile_denoiser, self._model, plans, compiled_code_dir(), batch_size).result()

    def generate_together(self, fixtures: Sequence[Fixture]) -> None:
        """Generate `fixtures` as concurrent requests, in one batch if possible, and discard the latents.

        Raises a CodecError if a generation fails.
        """

        async def generate() -> None:
            size = 1 if self._model.switches.step_cache in UNBATCHED_STEP_CACHES else len(fixtures)
            engine = DiffusersEngine(self._model, self._thread, BatchLimits(size, BATCH_WINDOW_S))
            await asyncio.gather(*(self._sample(engine, one, lambda _done, _total: None) for one in fixtures))

        asyncio.run(generate())
