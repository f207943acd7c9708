"""Parameters in a response: the request's parameters with all defaults, and a description of the server process."""

from functools import lru_cache
from operator import attrgetter

from codec_pixels.parameters import REQUEST_FIELDS, ParameterValue, file_parameters, to_json
from codec_wire.latents import LatentStreamHeader
from core.pins import Provenance
from core.plan import StreamPlan
from core.served import ModelInstance

_SENT_BY_THE_CLIENT = ("prompt", "negative_prompt", "image", "control_image", "mask", "latents")
"""Request fields that a response does not repeat.

The client knows the values of the omitted fields, and some of the values are too large for an HTTP header.
"""
_SEED = "seed"
_FIELDS = tuple(name for name in REQUEST_FIELDS if name not in (*_SENT_BY_THE_CLIENT, _SEED))
_values_of = attrgetter(*_FIELDS)
"""Return the values of the attributes _FIELDS of a plan."""


def environment_of(served: ModelInstance, provenance: Provenance) -> dict[str, str | None]:
    """Return the device, the library versions and the image digest of the process that runs the model `served`.

    `provenance` is that of the LatentService. A gateway returns the values of the upstream server.
    """
    return {
        "device": served.device,
        "versions": provenance.versions_text or None,
        "image_digest": provenance.image_digest,
    }


def response_parameters(plan: StreamPlan, served: ModelInstance, provenance: Provenance) -> str:
    """Return the parameters of the response for `plan` as one line of ASCII JSON, without prompts and images.

    `served` is the model of the plan, and `provenance` is that of the LatentService.
    """
    before, after = _around_seed(
        plan.header,
        served.bundle.hash,
        (plan.num_frames, plan.height, plan.width),
        _values_of(plan),
        tuple(environment_of(served, provenance).items()),
        keyframe_interval=plan.keyframe_interval if plan.header.pipeline_spec.delta else None,
    )
    return f"{before}{plan.seed}{after}"


@lru_cache(maxsize=256)
def _around_seed(
    header: LatentStreamHeader,
    map_hash: str,
    shape: tuple[int, ...],
    values: tuple[ParameterValue, ...],
    environment: tuple[tuple[str, str | None], ...],
    *,
    keyframe_interval: int | None,
) -> tuple[str, str]:
    """Return the JSON text of the parameters in two parts: the text before the seed, and the text after the seed.

    `values` are the values of the fields _FIELDS of the request.

    The result is cached, because most requests differ only in the seed.
    """
    parameters = file_parameters(
        header, map_hash, shape, {**dict(zip(_FIELDS, values, strict=True)), _SEED: 0}, dict(environment)
    )
    if keyframe_interval is not None:
        parameters["keyframe_interval"] = keyframe_interval
    name = f'"{_SEED}": '  # inside of a value, the quotes would follow backslashes
    before, _, after = to_json(parameters, ascii_only=True).partition(f"{name}0")
    return before + name, after
