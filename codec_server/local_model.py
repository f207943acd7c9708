"""Brings the local models up: load, find or make their maps, warm, serve."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from types import ModuleType

from codec_maps import BuiltMap, build_map
from codec_maps.corpus import default_prompts, generate_corpus
from codec_maps.model_map import Dictionary, map_from_model
from codec_wire.errors import CodecError, InvalidSettings
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest
from core.lifecycle import Lifecycle, State
from core.map_store import bundle_folder, find_bundle
from core.model import ModelInfo
from core.plan import plan
from core.probe import probe_request
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings

log = logging.getLogger(__name__)

WARM_UP_STEPS = 5
"""Enough for the schedulers that cannot do with fewer."""
FREE_S = 5.0
"""How long the thread gets to end what it does, in seconds: a step, not the download of a model."""
WARM_UP_CELLS = 8
"""Side of the warm-up's latent: small, and large enough for every level of a UNet."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A warm model as it is served, what a map says of its VAE, and whether its map was found or made from that."""

    served: ModelInstance
    modalities: tuple[Modality, ...]
    vae_scale_factor: float
    vae_class: str
    map_found: bool

    def map_with(self, scales: Mapping[str, bytes], dictionaries: Sequence[Dictionary]) -> LatentMapBundle:
        """Return a map of this model with these static scales and dictionaries."""
        described = replace(self.served.model, modalities=self.modalities)
        return map_from_model(described, self.vae_scale_factor, self.vae_class, scales, dictionaries)


class LocalModel:
    """The pipelines of this process and the one thread that owns them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread: ThreadPoolExecutor | None = None

    async def bring_up(self, service: LatentService) -> None:
        """Load and warm the model, and let `service` serve it. The event loop answers meanwhile.

        A model without a map is calibrated once, and the map is kept. Raises ModelLoadError, InvalidMap or
        InvalidSettings.
        """
        served: list[ModelInstance] = []
        for loaded in await self._load(service.lifecycle):
            # Two models of one latent space have one map.
            shared = [one.bundle for one in served if one.model.latent_space == loaded.served.model.latent_space]
            if shared:
                served.append(replace(loaded.served, bundle=shared[0]))
            else:
                served.append(loaded.served if loaded.map_found else await self._with_own_map(loaded))
        service.models.replace(served)
        service.lifecycle.transition_to(State.SERVING)

    async def build_map(
        self, prompts: Sequence[str], on_image: Callable[[int], None], on_trial: Callable[[int, int], None]
    ) -> BuiltMap:
        """Load the model, generate, and return its map with what was measured. See codec_maps.build_map.

        `on_image` is called with the number of images done. Raises what loading and generating raise.
        """
        return await self._build((await self._load(Lifecycle()))[0], prompts, on_image, on_trial)

    async def _load(self, lifecycle: Lifecycle) -> list[_Loaded]:
        # These imports take seconds, and a client or gateway that shares this package has no torch.
        device_module, engine_module, loader, sources = await asyncio.to_thread(_import_engine)
        settings, loop = self._settings, asyncio.get_running_loop()
        device = await asyncio.to_thread(device_module.Device.from_settings, settings.device, settings.dtype, settings.threads)
        self._thread = device.new_executor()
        models = []
        for source in sources.model_sources(settings):
            log.info("loading %s on %s", source.what, device)
            models.append(await loop.run_in_executor(self._thread, loader.load, source, device))
        lifecycle.transition_to(State.WARMING)
        loaded = []
        for model in models:
            info = model.info
            # What one map describes is what all models of its latent space make.
            beside = [other.info for other in models if other.info.latent_space == info.latent_space]
            made = tuple(dict.fromkeys(modality for other in beside for modality in other.modalities))
            found = find_bundle(settings.models_dir, info, model.vae_scale_factor)
            bundle = found or map_from_model(replace(info, modalities=made), model.vae_scale_factor, model.vae_class)
            for modality in info.modalities:
                warm_up_plan = plan(_warm_up_request(info, modality), bundle, info)
                await loop.run_in_executor(self._thread, engine_module.warm_up, model, warm_up_plan)
            served = ModelInstance(info, bundle, engine_module.DiffusersEngine(model, self._thread), str(device))
            loaded.append(_Loaded(served, made, model.vae_scale_factor, model.vae_class, map_found=found is not None))
        return loaded

    async def _with_own_map(self, loaded: _Loaded) -> ModelInstance:
        """Return what is served with a map that is calibrated, where that is not turned off, and kept."""
        images, served = self._settings.calibration_images, loaded.served
        latent_space = served.model.latent_space
        if not images:
            log.info("no latent-space map for %s, and CODEC_CALIBRATION_IMAGES is 0: no int8, no int4", latent_space)
            return served
        log.info("no latent-space map for %s: generating %d images to make one", latent_space, images)
        try:
            built = await self._build(
                loaded,
                default_prompts(),
                lambda done: log.info("calibration: %d of %d images", done, images),
                lambda _done, _total: None,
            )
        except CodecError as error:
            log.warning("calibration failed, so there is no int8 and no int4: %s", error)
            return served
        bundle = built.bundle
        kept = ", ".join(f"{quality.pipeline} {quality.snr_db:.1f} dB" for quality in built.qualities)
        log.info("calibrated %s: %s; %d dictionaries", latent_space, kept, len(bundle.latent_map.zstd_dictionaries))
        folder = bundle_folder(self._settings.models_dir, latent_space)
        try:
            bundle.write(folder)
        except OSError as error:
            log.warning("the map cannot be kept in %s (%s): it is made anew at each start", folder, error.strerror)
        return replace(served, bundle=bundle)

    async def _build(
        self,
        loaded: _Loaded,
        prompts: Sequence[str],
        on_image: Callable[[int], None],
        on_trial: Callable[[int, int], None],
    ) -> BuiltMap:
        samples = await generate_corpus(loaded.served, prompts, self._settings.calibration_images, on_image)
        return await asyncio.to_thread(build_map, loaded.served.model, samples, loaded.map_with, on_trial)

    def free(self) -> bool:
        """Let go of the thread and, with it, of the pipeline; return False where a load still runs that cannot stop."""
        if self._thread is None:
            return True
        idle = self._thread.submit(lambda: None)
        _, busy = wait([idle], FREE_S)
        self._thread.shutdown(wait=not busy, cancel_futures=True)
        return not busy


def _import_engine() -> tuple[ModuleType, ModuleType, ModuleType, ModuleType]:
    try:
        from codec_pixels import device  # noqa: PLC0415
        from core.diffusers_engine import engine, loader, sources  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"serving a model needs {error.name}, which is not installed: install the extra `server` "
            "(pip install -c constraints.txt '.[server]'); a gateway needs none of it"
        ) from None

    return device, engine, loader, sources


def _warm_up_request(model: ModelInfo, modality: Modality) -> GenerationRequest:
    side = model.size_multiple * WARM_UP_CELLS
    return probe_request(model, modality, "warm-up", 0, size=(side, side), steps=WARM_UP_STEPS)
