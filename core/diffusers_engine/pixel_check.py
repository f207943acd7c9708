"""Comparison of decoded latents with the pixels that the model's own pipeline returns.

Clients decode latents with the VAE alone, without the code of the pipeline. The code of the pipeline determines which
settings of the VAE are applied, and a factory may have changed this code. Only a comparison proves that clients get the
same pixels as the pipeline.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_pixels.vae import VAE_DECODERS, decode_latents, to_uint8, vae_class_of
from codec_wire.errors import ModelLoadError
from codec_wire.first_line import first_line
from codec_wire.latents import Modality
from codec_wire.version import SERVER_VERSION
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import call_pipeline, memory_guard, sample
from core.diffusers_engine.variants import PipelineVariant
from core.engine import Job
from core.pins import installed_versions
from core.pixel_checks import PixelCheck
from core.plan import StreamPlan

log = logging.getLogger(__name__)

TOLERANCES = {"fp32": 1, "fp16": 8, "bf16": 24}
"""Largest allowed difference between compared pixel values from 0 to 255, as a dictionary by dtype.

The two decodings that are compared use the same latents and the same VAE. A different batch size of the decoder or a
different order of two operations can change values by a few units in the last place. In fp16 (11 significant bits) and
bf16 (8 significant bits), a decoder with tens of layers increases a rounding difference to several levels of an 8-bit
pixel. Wrong scaling of the latents causes a difference of tens of levels.
"""
_STEPS_AFTER_DECODING = ("safety_checker", "watermark")
"""Pipeline components that change pixels only after decoding.

The comparison of pixels runs without the safety checker and the watermark.
"""


def check_key(model: LoadedModel) -> dict[str, Any]:
    """Return a JSON object with everything that the result of check_pixels depends on.

    The key contains neither the number of threads nor the build tags of libraries ("+cpu"), because the effect of both
    on pixels is within the tolerance.
    """
    vae = model.pipeline.vae
    # Names with an underscore are not settings, e.g. the path of the VAE.
    settings = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    config = json.dumps(settings, sort_keys=True, default=str).encode()
    return {
        "model": model.info.name,
        "pipelines": [_qualified_name(variant.pipeline) for variant in model.variants],
        "vae": _qualified_name(vae),
        "vae_config": f"sha256:{hashlib.sha256(config).hexdigest()}",
        "device": f"{model.device.hardware} {model.device.dtype_name}",
        "vae_dtype": str(vae.dtype),
        "versions": {name: version.partition("+")[0] for name, version in installed_versions().items()},
        "server_version": SERVER_VERSION,
    }


def check_pixels(model: LoadedModel, plans: Sequence[StreamPlan]) -> tuple[PixelCheck, ...]:
    """Run every plan twice, and compare the decoded latents with the pixels that the pipeline returns.

    Call this function on the device thread. Raises ModelLoadError if the pixels of a pipeline differ by more than the
    tolerance. The ModelLoadError contains the largest difference.
    """
    checks = []
    for plan in plans:
        variant = model.variant_for(plan)
        check = _check(model, variant, plan)
        checks.append(check)
        if check.max_difference is not None and check.max_difference > check.tolerance:
            raise ModelLoadError(
                f"{model.info.name} ({_qualified_name(variant.pipeline)} with {_qualified_name(model.pipeline.vae)}) "
                "cannot be served: its decoded latents differ from the pixels of its pipeline by up to "
                f"{check.max_difference} of 255 levels, but the maximum is {check.tolerance}. The pipeline or its "
                "VAE changes the latents before decoding or the pixels after decoding. Clients cannot make such a "
                "change: remove the change from the pipeline or the VAE, or serve another pipeline class"
            )
        if check.reason is not None:
            log.warning("decoded latents cannot be compared with the pixels of %s: %s", check.pipeline, check.reason)
    return tuple(checks)


def require_comparison(model: LoadedModel, checks: Sequence[PixelCheck]) -> None:
    """If the pipeline class of `model` has no row in the family table, require that the pixels were compared.

    Raises ModelLoadError if `checks` is empty, or if the pixels could not be compared in one of `checks`. The
    ModelLoadError contains the reason.
    """
    if not model.family.is_inferred:
        return
    reasons = [str(check) for check in checks if check.max_difference is None]
    if reasons or not checks:
        reason = reasons[0] if reasons else "a request for the comparison cannot be planned"
        raise ModelLoadError(
            f"{model.info.name} cannot be served: the class {model.family.pipeline_class} has no row in the family "
            f"table, and its decoded latents could not be compared with the pixels of its pipeline ({reason})"
        )


def _check(model: LoadedModel, variant: PipelineVariant, plan: StreamPlan) -> PixelCheck:
    vae = variant.pipeline.vae
    tolerance = TOLERANCES.get(model.device.dtype_name, TOLERANCES["bf16"])
    result = partial(PixelCheck, variant.family.pipeline_class, type(vae).__name__, tolerance=tolerance)
    if vae_class_of(vae) not in VAE_DECODERS:
        return result(None, reason="the class of its VAE is not supported")
    try:
        latents = sample(model, plan, Job(), lambda _done, _total: None)
        expected = pipeline_pixels(variant, plan)
    except Exception as error:
        # A factory may combine dtypes so that only separate decoding works, e.g. an fp32 VAE in an fp16 pipeline.
        log.debug("a pipeline cannot generate pixels", exc_info=error)
        reason = first_line(error)
        return result(None, reason=f"the pipeline cannot generate pixels: {reason}")
    decoded = decode_latents(vae, latents, variant.family.pipeline_class)
    if decoded.shape != expected.shape:
        return result(255)
    return result(int(np.abs(decoded.astype(int) - expected).max()))


def pipeline_pixels(variant: PipelineVariant, plan: StreamPlan) -> NDArray[np.uint8]:
    """Return the pixels, uint8 [N, H, W, 3], that the pipeline itself decodes for `plan`."""
    images = decode_inputs(plan)
    with memory_guard(plan), _without_steps_after_decoding(variant.pipeline):
        output = call_pipeline(variant, plan, images, "np", Job())
    pixels = output[0] if plan.modality is Modality.IMAGE else output[0][0]
    return to_uint8(np.asarray(pixels))


@contextmanager
def _without_steps_after_decoding(pipeline: Any) -> Iterator[None]:
    # Assigned past __setattr__, which would also change the pipeline's configuration.
    attributes = vars(pipeline)
    removed = {name: attributes[name] for name in _STEPS_AFTER_DECODING if attributes.get(name) is not None}
    attributes.update(dict.fromkeys(removed))
    try:
        yield
    finally:
        attributes.update(removed)


def _qualified_name(instance: Any) -> str:
    return f"{type(instance).__module__}.{type(instance).__qualname__}"
