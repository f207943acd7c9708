"""Calibration of a latent-space map for a loaded model, with images that the model generates."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

from codec_maps import BuiltMap, build_map
from codec_maps.corpus import default_prompts, generate_corpus
from codec_maps.latent_rgb import Decode, measure_latent_rgb
from codec_maps.model_map import Dictionary, map_from_model
from codec_wire.errors import CodecError, InvalidMap
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from core.map_store import bundle_folder, store_calibrated, store_latent_rgb
from core.served import ModelInstance
from core.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model, with the data that a latent-space map for the model needs.

    `map_found` is True if the latent-space map of the model was found, and False if the map was generated from the
    model.

    `modalities` are the modalities of all loaded models with the same latent space, because these models share one map.
    """

    served: ModelInstance
    modalities: tuple[Modality, ...]
    vae_scale_factor: float
    vae_class: str
    map_found: bool
    public_url: str | None = None
    decode: Decode | None = None
    """Function that decodes latents on the device thread, or None if the VAE is not available."""

    def map_with(self, scales: Mapping[str, bytes], dictionaries: Sequence[Dictionary]) -> LatentMapBundle:
        """Return a latent-space map for this model with the static scales `scales` and the zstd `dictionaries`."""
        model = replace(self.served.model, modalities=self.modalities)
        return map_from_model(
            model, self.vae_scale_factor, self.vae_class, scales, dictionaries, public_url=self.public_url
        )


async def calibrate(loaded: LoadedModel, settings: Settings, device_thread: Executor | None) -> ModelInstance:
    """Calibrate and store a latent-space map, and return the model with the new map.

    If calibration is disabled or fails, return the model with the map that the model already has.
    """
    images, served = settings.calibration_images, loaded.served
    latent_space = served.model.latent_space
    if not images:
        log.info(
            "%s has no latent-space map and calibration is disabled, so the pipelines int8 and int4 are not available",
            latent_space,
        )
        return served
    log.info("%s has no latent-space map: generating %d images to calibrate one", latent_space, images)
    try:
        built = await build_calibrated_map(
            loaded,
            device_thread,
            default_prompts(),
            images,
            on_image=lambda done: log.info("calibration: generated %d of %d images", done, images),
            on_trial=lambda _done, _total: None,
        )
    except CodecError as error:
        log.warning("calibration failed, serving without the pipelines int8 and int4: %s", error)
        return served
    bundle = built.bundle
    snr = ", ".join(f"{quality.pipeline} {quality.snr_db:.1f} dB" for quality in built.qualities)
    log.info(
        "calibrated %s: SNR %s; trained %d zstd dictionaries",
        latent_space,
        snr,
        len(bundle.latent_map.zstd_dictionaries),
    )
    folder = bundle_folder(settings.models_dir, latent_space)
    try:
        store_calibrated(folder, bundle)
        if built.latent_rgb is not None:
            store_latent_rgb(folder, built.latent_rgb)
    except InvalidMap as error:
        log.warning("%s; the model will be calibrated again at the next start", error)
    return replace(served, bundle=bundle, latent_rgb=built.latent_rgb)


async def build_calibrated_map(
    loaded: LoadedModel,
    device_thread: Executor | None,
    prompts: Sequence[str],
    images: int,
    *,
    on_image: Callable[[int], None],
    on_trial: Callable[[int, int], None],
) -> BuiltMap:
    """Generate images from `prompts`, and return a calibrated map and a latent-to-RGB matrix.

    The argument `images` is the number of images to generate. See codec_maps.build_map. Latents are decoded on
    `device_thread`. Raises CodecError if a generation fails.
    """
    samples = await generate_corpus(loaded.served, prompts, images, on_image)
    model = loaded.served.model
    built = await asyncio.to_thread(build_map, model, samples, loaded.map_with, on_trial)
    if loaded.decode is None:
        return built
    measure = partial(measure_latent_rgb, model.latent_space, samples, loaded.decode)
    return replace(built, latent_rgb=await asyncio.get_running_loop().run_in_executor(device_thread, measure))
