"""Fast mode of a model in this process.

When the model is loaded, the measured distance of fast mode from reference mode is checked, and the model is compiled.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from codec_server.warm_up import warm_up_steps
from codec_wire.errors import InvalidRequest, InvalidSettings
from codec_wire.maps import LatentMapBundle
from core.acceleration import Acceleration
from core.acceleration_store import AccelerationKey, find_acceleration, require_distance
from core.plan import StreamPlan, plan
from core.probe import probe_request
from core.settings import Settings
from core.switches import Mode

if TYPE_CHECKING:
    from core.diffusers_engine.loader import LoadedModel


def require_measured(settings: Settings, model: "LoadedModel", bundle: LatentMapBundle) -> Acceleration:
    """Return the mode of `model`, the switches of fast mode that are on, and the measured distance from reference mode.

    `bundle` is the model's latent-space map.

    Raises InvalidSettings if the distance was not measured or is outside the bounds in `settings`. See
    core.acceleration_store.
    """
    acceleration = model.acceleration
    if acceleration.mode is Mode.REFERENCE:
        return acceleration
    info, switches = model.info, acceleration.switches
    key = AccelerationKey.of(bundle.hash, info, model.device.hardware_kind)
    result = find_acceleration(settings.models_dir, info.latent_space, key, switches)
    return replace(acceleration, distance=require_distance(settings, info.name, switches, result))


def compiled_plans(settings: Settings, model: "LoadedModel", bundle: LatentMapBundle) -> list[StreamPlan]:
    """Return one plan for each image size for which the denoiser of `model` is compiled.

    Return an empty list if the denoiser of `model` is not compiled.

    Raises InvalidSettings if the model does not support one of the image sizes.
    """
    if model.switches.compile == "none":
        return []
    info = model.info
    modality = info.modalities[0]
    mode = info.modes_of(modality)[0]
    plans = []
    for size in settings.compile_size_list or (info.default_size,):
        try:
            request = probe_request(info, modality, "warm-up", 0, mode, size=size, steps=warm_up_steps(info, mode, 4))
            plans.append(plan(request, bundle, info))
        except InvalidRequest as error:
            raise InvalidSettings(
                f"CODEC_COMPILE_SIZES (--compile-sizes): the model does not support {size[0]}x{size[1]}: {error}"
            ) from None
    return plans
