"""Brings the local model up: load, find or make its map, warm, serve."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from types import ModuleType

from codec_maps import BuiltMap, build_map
from core.calibrating import default_prompts, sample_corpus
from core.errors import CodecError, InvalidSettings
from core.lifecycle import Lifecycle, State
from core.maps import LatentMapBundle
from core.maps.build import Dictionary, map_of_model
from core.maps.store import bundle_folder, find_bundle
from core.plan import plan
from core.request import GenerationRequest
from core.service import LatentService, Served
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

    served: Served
    vae_scale_factor: float
    vae_class: str
    map_found: bool

    def map_with(self, scales: Mapping[str, bytes], dictionaries: Sequence[Dictionary]) -> LatentMapBundle:
        """Return a map of this model with these static scales and dictionaries."""
        return map_of_model(self.served.model, self.vae_scale_factor, self.vae_class, scales, dictionaries)


class LocalModel:
    """The pipeline of this process and the thread that owns it."""

    def __init__(self, settings: Settings) -> None:
        if settings.model is None and settings.pipeline is None:
            raise InvalidSettings(
                "no model is named: give --model (or CODEC_MODEL) a hub id or a directory. "
                "`make run` builds a small untrained one"
            )
        self._settings = settings
        self._thread: ThreadPoolExecutor | None = None

    async def bring_up(self, service: LatentService) -> None:
        """Load and warm the model, and let `service` serve it. The event loop answers meanwhile.

        A model without a map is calibrated once, and the map is kept. Raises ModelLoadError, InvalidMap or
        InvalidSettings.
        """
        loaded = await self._load(service.lifecycle)
        service.served = loaded.served if loaded.map_found else await self._with_own_map(loaded)
        service.lifecycle.to(State.SERVING)

    async def build_map(
        self, prompts: Sequence[str], on_image: Callable[[int], None], on_trial: Callable[[int, int], None]
    ) -> BuiltMap:
        """Load the model, generate, and return its map with what was measured. See codec_maps.build_map.

        `on_image` is called with the number of images done. Raises what loading and generating raise.
        """
        return await self._build(await self._load(Lifecycle()), prompts, on_image, on_trial)

    async def _load(self, lifecycle: Lifecycle) -> _Loaded:
        # These imports take seconds, and a client or gateway that shares this package has no torch.
        device_module, engine_module, loading = await asyncio.to_thread(_import_engine)
        settings, loop = self._settings, asyncio.get_running_loop()
        device = await asyncio.to_thread(device_module.Device.chosen, settings.device, settings.dtype, settings.threads)
        self._thread = device.new_thread()
        source = loading.ModelSource(
            name=settings.model,
            factory=settings.pipeline,
            models_dir=settings.models_dir,
            latent_space=settings.latent_space,
            allow_pickle=settings.allow_pickle,
        )
        log.info("loading %s on %s", settings.model or settings.pipeline, device)
        model = await loop.run_in_executor(self._thread, loading.load, source, device)
        found = find_bundle(settings.models_dir, model.info, model.vae_scale_factor)
        bundle = found or map_of_model(model.info, model.vae_scale_factor, model.vae_class)
        lifecycle.to(State.WARMING)
        warm_up_plan = plan(_warm_up_request(model.info.size_multiple), bundle, model.info)
        await loop.run_in_executor(self._thread, engine_module.warm_up, model, warm_up_plan)
        served = Served(model.info, bundle, engine_module.DiffusersEngine(model, self._thread), str(device))
        return _Loaded(served, model.vae_scale_factor, model.vae_class, map_found=found is not None)

    async def _with_own_map(self, loaded: _Loaded) -> Served:
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
        samples = await sample_corpus(loaded.served, prompts, self._settings.calibration_images, on_image)
        return await asyncio.to_thread(build_map, loaded.served.model, samples, loaded.map_with, on_trial)

    def free(self) -> bool:
        """Let go of the thread and, with it, of the pipeline; return False where a load still runs that cannot stop."""
        if self._thread is None:
            return True
        idle = self._thread.submit(lambda: None)
        _, busy = wait([idle], FREE_S)
        self._thread.shutdown(wait=not busy, cancel_futures=True)
        return not busy


def _import_engine() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        from core.diffusers_engine import device, engine, loading  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"serving a model needs {error.name}, which is not installed: install the extra `server` "
            "(pip install -c constraints.txt '.[server]'); a gateway needs none of it"
        ) from None

    return device, engine, loading


def _warm_up_request(multiple: int) -> GenerationRequest:
    side = multiple * WARM_UP_CELLS
    return GenerationRequest(prompt="warm-up", size=(side, side), steps=WARM_UP_STEPS)
