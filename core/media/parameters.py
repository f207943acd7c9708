"""What a file says of how it was made."""

import json

from core import SERVER_VERSION
from core.latents import LatentStreamHeader
from core.maps.bundle import sha256
from core.plan import StreamPlan
from core.request import DEFAULT_STRENGTH, GenerationRequest

SOFTWARE = f"codec-diffusers {SERVER_VERSION}"
KEYWORD = "codec-diffusers"
"""Name under which a PNG holds the parameters."""

Parameters = dict[str, str | int | float]
_Known = dict[str, str | int | float | None]


def parameters_of(plan: StreamPlan, map_hash: str, frames: int) -> Parameters:
    """Return what it takes to make the plan's `frames` pictures again, on a server with the same model and pins.

    A picture that came with the request is named by its hash.
    """
    pictures = [None if picture is None else picture.data for picture in (plan.image, plan.control_image)]
    asked = _asked(plan, plan.model, pictures) | {"strength": plan.strength}
    return _present(asked | _of_stream(plan.header, map_hash, (frames, plan.height, plan.width)))


def parameters_received(
    header: LatentStreamHeader,
    map_hash: str | None,
    shape: tuple[int, ...],
    request: GenerationRequest | None = None,
    model: str | None = None,
) -> Parameters:
    """Return the same for a stream's pictures, whose array has the shape [frames, height, width, ...].

    `request` is what was asked for and `model` what answered, None where a client does not know.
    """
    asked: _Known = {}
    if request is not None:
        asked = _asked(request, model or request.model, [request.image, request.control_image])
        if request.image is not None and header.fps is None:  # videos that begin with a picture take no strength
            asked["strength"] = DEFAULT_STRENGTH if request.strength is None else request.strength
    return _present(asked | _of_stream(header, map_hash, shape))


def _asked(asked: StreamPlan | GenerationRequest, model: str | None, pictures: list[bytes | None]) -> _Known:
    image, control_image = (None if data is None else sha256(data) for data in pictures)
    return {
        "model": model,
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "seed": asked.seed,
        "steps": asked.steps,
        "guidance_scale": asked.guidance_scale,
        "image": image,
        "control_image": control_image,
    }


def _of_stream(header: LatentStreamHeader, map_hash: str | None, shape: tuple[int, ...]) -> _Known:
    frames, height, width = shape[:3]
    return {
        "size": f"{width}x{height}",
        "fps": header.fps,
        "frames": frames if header.fps else None,
        "latent_space": header.latent_space_id,
        "latent_map": map_hash,
        "pipeline": header.pipeline,
        "software": SOFTWARE,
    }


def _present(parameters: _Known) -> Parameters:
    return {name: value for name, value in parameters.items() if value is not None}


def as_json(parameters: Parameters, *, ascii_only: bool = False) -> str:
    """Return the parameters as one line of JSON."""
    return json.dumps(parameters, ensure_ascii=ascii_only)
