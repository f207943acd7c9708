"""Loading and warm-up of the models that run in this process, with their latent-space maps."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from codec_client.cache import compiled_code_dir
from codec_maps import BuiltMap
from codec_maps.model_map import map_from_model
from codec_pixels.device_thread import DeviceThread
from codec_pixels.fair_queue import BatchLimits
from codec_server.calibration import LoadedModel, build_calibrated_map, calibrate
from codec_server.configured_map import fetch_configured_map, find_model_map, require_configured_map
from codec_server.fast_mode import compiled_plans, require_measured
from codec_server.pixel_proof import prove_pixels, without_unproven_pixels
from codec_server.warm_up import WARM_UP_STEPS, warm_ups
from codec_wire.errors import InvalidSettings, ModelLoadError
from codec_wire.latents import Modality
from codec_wire.pipelines.host import use_compiled_math
from core.decoder_file import find_decoder
from core.lifecycle import Lifecycle, State
from core.map_store import bundle_folder, find_latent_rgb, require_writable
from core.memory_model import MemoryModel
from core.pixel_checks import PixelCheck
from core.role import Role
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings
from core.watchdog import Watchdog
from core.working_memory import MIB

if TYPE_CHECKING:
    from codec_pixels.device import Device

log = logging.getLogger(__name__)

FREE_MEMORY_SHARE = 0.8
"""Default limit on the memory of jobs, as a fraction of the memory that is free after the models have been loaded."""
STOP_TIMEOUT_S = 5.0
"""Maximum time in seconds to wait until the device thread is idle.

A time of 5 seconds is enough for a sampling step, but not for loading a model.
"""


class LocalModel:
    """The diffusers pipelines of this process, and the device thread that runs the pipelines.

    `role` selects the components to load.
    """

    def __init__(self, settings: Settings, role: Role = Role.ALL) -> None:
        self._settings = settings
        self._role = role
        self._batches = BatchLimits(settings.batch_size, settings.batch_window_ms / 1000)
        self._thread: DeviceThread | None = None
        self._device: Device | None = None
        self._warm_ups: list[Callable[[], object]] = []

    async def start_serving(self, service: LatentService) -> None:
        """Do the same as `load` for a server, which encodes so many frames that compiled loops pay off."""
        await asyncio.to_thread(use_compiled_math)
        await self.load(service)

    async def load(self, service: LatentService, modality: Modality | None = None) -> None:
        """Load and warm up the models without blocking the event loop, then let `service` serve them.

        The models are warmed up for every modality, or only for `modality` if `modality` is not None.

        A model without a latent-space map is calibrated, and the new map is stored in the models directory. A server
        with the role `decoder` cannot generate images for a calibration. The map that a server with the role `decoder`
        stores has no zstd dictionaries, and lacks the encoding pipelines int8 and int4. Raises ModelLoadError if a
        model cannot be loaded or does not work. Raises InvalidMap if a map is not valid, and InvalidSettings if the
        settings contradict a model or a map.
        """
        served: list[ModelInstance] = []
        for loaded in await self._load(service.lifecycle, modality):
            # Models with the same latent space share one map.
            shared = [one for one in served if one.model.latent_space == loaded.served.model.latent_space]
            if shared:
                first = shared[0]
                served.append(
                    replace(loaded.served, bundle=first.bundle, latent_rgb=first.latent_rgb, decoder=first.decoder)
                )
            else:
                known = loaded.map_found or loaded.served.model.unproven_pixels is not None
                known = known or self._role is Role.DECODER
                served.append(loaded.served if known else await calibrate(loaded, self._settings, self._thread))
        service.models.replace(served)
        if any(one.memory for one in served):
            memory = service.admission.working_memory
            with_loras = sum(one.model.lora_directory is not None for one in served)
            reserved = with_loras * self._settings.lora_cache_bytes
            memory.limit = await asyncio.to_thread(self._memory_limit, reserved)
            self._batches.max_memory = memory.free_for_peaks
        service.lifecycle.transition_to(State.SERVING)

    def _memory_limit(self, reserved: int) -> int | None:
        """Return the limit on the working memory of jobs in bytes. `reserved` bytes of the free memory are kept free.

        Return None if no limit is set and the free memory is unknown.
        """
        from codec_pixels.device_memory import free_memory  # noqa: PLC0415 - imports torch

        limit = self._settings.max_memory_bytes
        free = None if limit is not None or self._device is None else free_memory(self._device.torch_device)
        if free is not None:
            limit = max(0, int(free * FREE_MEMORY_SHARE) - reserved)
        size = "any amount" if limit is None else f"at most {limit // MIB} MiB"
        log.info("generations may use %s of memory in addition to the model (CODEC_MAX_MEMORY_MIB)", size)
        return limit

    async def follow(self, service: LatentService) -> None:
        """Watch the device until this method is cancelled, and stop serving while the device hangs or fails."""
        await Watchdog(
            service.lifecycle,
            service.failures,
            self._settings.step_timeout_s,
            self.seconds_without_progress,
            self.probe,
        ).run()

    def seconds_without_progress(self) -> float:
        """Return how many seconds the device thread has worked without progress, or 0 if the thread is idle."""
        return 0.0 if self._thread is None else self._thread.seconds_without_progress()

    async def probe(self) -> None:
        """Repeat the warm-up of every model. Raises ModelLoadError if a warm-up fails."""
        loop = asyncio.get_running_loop()
        for warm_up in self._warm_ups:
            await loop.run_in_executor(self._thread, warm_up)

    async def build_map(
        self, prompts: Sequence[str], on_image: Callable[[int], None], on_trial: Callable[[int, int], None]
    ) -> BuiltMap:
        """Load the model, generate one image for each prompt, and return a calibrated map. See codec_maps.build_map.

        `on_image` is called with the number of generated images. `on_trial` is called with the number of evaluated
        dictionaries and the total number of dictionaries. Raises StartupError if the model cannot be loaded, and
        CodecError if a generation fails. Before the first generation, raises InvalidMap if the map cannot be written to
        the models directory.
        """
        loaded = (await self._load(Lifecycle()))[0]
        model = loaded.served.model
        if model.unproven_pixels is not None:
            raise ModelLoadError(f"no map can be built for {model.name}: {model.unproven_pixels}")
        require_writable(bundle_folder(self._settings.models_dir, model.latent_space))
        return await build_calibrated_map(
            loaded, self._thread, prompts, self._settings.calibration_images, on_image=on_image, on_trial=on_trial
        )

    async def _load(self, lifecycle: Lifecycle, only: Modality | None = None) -> list[LoadedModel]:
        # Importing torch takes seconds, and it is not installed with a gateway.
        modules = await asyncio.to_thread(_import_engine)
        device_module, engine_module, loader, sources, vae_module, tensor_module, compiler = modules
        settings, loop = self._settings, asyncio.get_running_loop()
        configured = await fetch_configured_map(settings)
        device = await asyncio.to_thread(
            device_module.Device.from_settings, settings.device, settings.dtype, settings.threads
        )
        self._thread = device.new_executor()
        self._device = device
        models = []
        for source in sources.model_sources(settings, self._role):
            log.info("loading %s on %s", source.label, device)
            models.append(await loop.run_in_executor(self._thread, loader.load, source, device))
        bundles = [find_model_map(settings, configured, model.info, model.vae_scale_factor) for model in models]
        found_maps = {model.info.latent_space: found for model, found in zip(models, bundles, strict=True)}
        require_configured_map(settings, configured, found_maps)
        lifecycle.transition_to(State.WARMING)
        loaded = []
        for model, found in zip(models, bundles, strict=True):
            info = model.info
            # A map lists the pipelines of every modality that the models with its latent space generate.
            sharing = [other.info for other in models if other.info.latent_space == info.latent_space]
            modalities = tuple(dict.fromkeys(modality for other in sharing for modality in other.modalities))
            bundle = found or map_from_model(
                replace(info, modalities=modalities),
                model.vae_scale_factor,
                model.vae_class,
                public_url=settings.public_url,
            )
            acceleration = require_measured(settings, model, bundle)
            compiled = compiled_plans(settings, model, bundle)
            memory: dict[Modality, MemoryModel] = {}
            for warm_up in warm_ups(model, bundle, self._role, only):
                measured = await loop.run_in_executor(self._thread, warm_up.run)
                if measured is not None and warm_up.modality is not None:
                    memory[warm_up.modality] = measured
                self._warm_ups.append(warm_up.repeat)
            checks: tuple[PixelCheck, ...] = ()
            if self._role is Role.ALL:  # the comparison needs the denoiser and the VAE
                checks = await prove_pixels(model, bundle, self._thread, settings.models_dir, steps=WARM_UP_STEPS[-1])
            # After the measurements above, which compiled modules would not allow.
            await loop.run_in_executor(
                self._thread, compiler.compile_denoiser, model, compiled, compiled_code_dir(), settings.batch_size
            )
            info = without_unproven_pixels(info, checks)
            engine = None
            if self._role is not Role.DECODER:
                engine = engine_module.DiffusersEngine(model, self._thread, self._batches)
            vae = vae_module.DiffusersVae(model, self._thread) if info.renders else None
            tensor_vae = tensor_module.DiffusersTensorVae(model, self._thread) if info.renders else None
            matrix = find_latent_rgb(settings.models_dir, info.latent_space, info.latent_channels)
            served = ModelInstance(
                info,
                bundle,
                engine,
                str(model.device),
                checks,
                vae,
                tensor_vae,
                memory,
                matrix,
                acceleration,
                decoder=find_decoder(settings.models_dir, bundle),
            )
            loaded.append(
                LoadedModel(
                    served,
                    modalities,
                    model.vae_scale_factor,
                    model.vae_class,
                    map_found=found is not None,
                    public_url=settings.public_url,
                    decode=partial(vae_module.decode_frames, model) if info.renders else None,
                )
            )
        return loaded

    def free(self) -> bool:
        """Stop the device thread and release the diffusers pipelines.

        Return False if the thread is still loading a model.
        """
        if self._thread is None:
            return True
        idle = self._thread.submit(lambda: None)
        _, busy = wait([idle], STOP_TIMEOUT_S)
        self._thread.shutdown(wait=not busy, cancel_futures=True)
        return not busy


def _import_engine() -> tuple[ModuleType, ...]:
    try:
        from codec_pixels import device  # noqa: PLC0415
        from core.diffusers_engine import (  # noqa: PLC0415
            compilation,
            engine,
            loader,
            sources,
            tensor_vae,
            vae_engine,
        )
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"serving a model needs {error.name}, which is not installed: install the extra `server` (pip install "
            "-c constraints.txt '.[server]'); a gateway does not need this extra"
        ) from None

    return device, engine, loader, sources, vae_engine, tensor_vae, compilation
