"""A model in fast mode. The images of fast mode are compared with the images of reference mode."""

from collections.abc import Sequence
from dataclasses import replace

from codec_client.cache import compiled_code_dir
from codec_golden.fixtures import Fixture
from codec_golden.reference import ReferenceModel
from core.diffusers_engine.compilation import compile_denoiser
from core.diffusers_engine.sources import model_sources
from core.settings import Settings
from core.switches import Switches, with_switches


class FastModel(ReferenceModel):
    """A ReferenceModel with switches of fast mode. Golden fixtures are never generated with this class."""

    def __init__(self, settings: Settings, switches: Switches) -> None:
        """Load the model selected by `settings`.

        A switch that is not in `switches.required` is left off if the model does not support the switch. Raises
        ModelLoadError if the model cannot be loaded, and InvalidSettings if the model does not support a required
        switch.
        """
        settings = with_switches(settings, switches)
        self._load(settings, replace(model_sources(settings)[0], switches=switches))

    @property
    def switches(self) -> tuple[str, ...]:
        """The switches of fast mode that are on."""
        return self._model.switches.names

    @property
    def batch_size(self) -> int:
        """Maximum number of generations that are sampled together."""
        return self._model.switches.batch_size

    def compile(self, fixtures: Sequence[Fixture]) -> None:
        """Compile the model for the sizes of `fixtures`, or do nothing if the switch `compile` is off.

        The model is compiled for single generations and for full batches.
        """
        plans = list({one.resolution: self.plan(one) for one in fixtures}.values())
        self._thread.submit(compile_denoiser, self._model, plans, compiled_code_dir(), self.batch_size).result()
