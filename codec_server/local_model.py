"""Brings the local model up: load, find or make its map, warm, serve."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor, wait

from core.errors import InvalidSettings
from core.lifecycle import State
from core.maps.build import map_of_model
from core.maps.store import find_bundle
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

        Raises ModelLoadError, InvalidMap or InvalidSettings.
        """
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
        bundle = find_bundle(settings.models_dir, model.info, model.vae_scale_factor)
        if bundle is None:
            bundle = map_of_model(model.info, model.vae_scale_factor, model.vae_class)
            log.info("no latent-space map for %s: made one without static scales", model.info.latent_space)
        service.lifecycle.to(State.WARMING)
        warm_up_plan = plan(_warm_up_request(model.info.size_multiple), bundle, model.info)
        await loop.run_in_executor(self._thread, engine_module.warm_up, model, warm_up_plan)
        engine = engine_module.DiffusersEngine(model, self._thread)
        service.served = Served(model.info, bundle, engine, str(device))
        service.lifecycle.to(State.SERVING)

    def free(self) -> bool:
        """Let go of the thread and, with it, of the pipeline; return False where a load still runs that cannot stop."""
        if self._thread is None:
            return True
        idle = self._thread.submit(lambda: None)
        _, busy = wait([idle], FREE_S)
        self._thread.shutdown(wait=not busy, cancel_futures=True)
        return not busy


def _import_engine():  # type: ignore[no-untyped-def]  # noqa: ANN202 - three modules
    from core.diffusers_engine import device, engine, loading  # noqa: PLC0415

    return device, engine, loading


def _warm_up_request(multiple: int) -> GenerationRequest:
    side = multiple * WARM_UP_CELLS
    return GenerationRequest(prompt="warm-up", size=(side, side), steps=WARM_UP_STEPS)
