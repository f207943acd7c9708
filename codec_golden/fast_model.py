"""A model in fast mode, whose images are compared with those of the reference."""

import asyncio
from collections.abc import Sequence

from codec_client.cache import default_cache_dir
from codec_golden.fixtures import Fixture
from codec_golden.reference import ReferenceModel
from core.diffusers_engine.compilation import compile_denoiser
from core.diffusers_engine.engine import DiffusersEngine
from core.settings import Settings
from core.switches import Switches, with_switches


class FastModel(ReferenceModel):
    """The same as ReferenceModel with `switches`. Golden fixtures are never made with it."""

    def __init__(self, settings: Settings, switches: Switches) -> None:
        """Load the model selected by `settings`.

        Raises ModelLoadError if the model cannot be loaded, and InvalidSettings if it cannot have a switch.
        """
        self._load(with_switches(settings, switches))

    @property
    def switches(self) -> tuple[str, ...]:
        """The switches that are on."""
        return self._model.switches.names

    def compile(self, fixtures: Sequence[Fixture]) -> None:
        """Compile the model for the sizes of `fixtures`. Does nothing without the switch `compile`."""
        plans = list({one.resolution: self.plan(one) for one in fixtures}.values())
        self._thread.submit(compile_denoiser, self._model, plans, default_cache_dir() / "compiled").result()

    def generate_together(self, fixtures: Sequence[Fixture]) -> None:
        """Generate `fixtures` as concurrent requests, and discard the latents. Raises CodecError."""

        async def generate() -> None:
            engine = DiffusersEngine(self._model, self._thread)
            await asyncio.gather(*(self._sample(engine, one, lambda _done, _total: None) for one in fixtures))

        asyncio.run(generate())
