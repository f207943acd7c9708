"""Creation of the generation parameters that are written into image and video files."""

import json
from collections.abc import Mapping

from codec_wire.extra import ExtraParameters
from codec_wire.latents import LatentStreamHeader
from codec_wire.maps.bundle import sha256
from codec_wire.request_lora import RequestLora
from codec_wire.request_lora import to_json as loras_to_json
from codec_wire.version import SERVER_VERSION

SOFTWARE = f"codec-diffusers {SERVER_VERSION}"
KEYWORD = "codec-diffusers"
"""Keyword of the PNG text chunk that contains the parameters."""
REQUEST_FIELDS = (
    "model",
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "scheduler",
    "prompt_syntax",
    "loras",
    "guidance_scale",
    "image",
    "control_image",
    "mask",
    "strength",
    "latents",
    "extra",
)

ENVIRONMENT_FIELDS = ("device", "versions", "image_digest")
"""Names of the parameters that describe the process that generated the latents."""
NO_ENVIRONMENT: Mapping[str, str | None] = {}

JsonValue = str | int | float | list[dict[str, str | float]] | dict[str, int | float]
"""JSON value of a generation parameter in an image or video file."""
Parameters = dict[str, JsonValue]
ParameterValue = str | int | float | bytes | tuple[RequestLora, ...] | ExtraParameters | None
"""Value of a request parameter."""


def file_parameters(
    header: LatentStreamHeader,
    map_hash: str | None,
    shape: tuple[int, ...],
    request: Mapping[str, ParameterValue],
    environment: Mapping[str, str | None] = NO_ENVIRONMENT,
) -> Parameters:
    """Return the parameters from which a server with the same model and library versions can reproduce a file.

    `shape` is the shape of the decoded frames, [frames, height, width, ...]. `request` is a dictionary of the request's
    parameters by name, with names from REQUEST_FIELDS. Values that are bytes (input images and latents) are replaced
    with the sha256 of the bytes. `environment` is a dictionary of texts by name, with names from ENVIRONMENT_FIELDS.
    Parameters with the value None or an empty tuple are left out.
    """
    num_frames, height, width = shape[:3]
    requested = {name: request.get(name) for name in REQUEST_FIELDS}
    parameters = {name: _json_value(value) for name, value in requested.items()} | {
        "size": f"{width}x{height}",
        "fps": header.fps,
        "frames": num_frames if header.fps else None,
        "latent_space": header.latent_space_id,
        "latent_map": map_hash,
        "pipeline": header.pipeline,
        "software": SOFTWARE,
    }
    parameters |= {name: environment.get(name) for name in ENVIRONMENT_FIELDS}
    return {name: value for name, value in parameters.items() if value is not None}


def _json_value(value: ParameterValue) -> JsonValue | None:
    """Return `value` as a JSON value, or None if `value` is an empty tuple."""
    if isinstance(value, bytes):
        return sha256(value)
    if isinstance(value, ExtraParameters):
        return value.given
    return (loras_to_json(value) or None) if isinstance(value, tuple) else value


def to_json(parameters: Parameters, *, ascii_only: bool = False) -> str:
    """Return the parameters as one line of JSON."""
    return json.dumps(parameters, ensure_ascii=ascii_only)
