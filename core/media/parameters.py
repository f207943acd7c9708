"""What a file says of how it was made."""

import json

from core import SERVER_VERSION
from core.plan import StreamPlan

SOFTWARE = f"codec-diffusers {SERVER_VERSION}"
KEYWORD = "codec-diffusers"
"""Name under which a PNG holds the parameters."""

Parameters = dict[str, str | int | float | None]


def parameters_of(plan: StreamPlan, map_hash: str, frames: int) -> Parameters:
    """Return what it takes to make the plan's `frames` pictures again, on a server with the same model and pins."""
    parameters: Parameters = {
        "model": plan.model,
        "prompt": plan.prompt,
        "negative_prompt": plan.negative_prompt,
        "seed": plan.seed,
        "steps": plan.steps,
        "guidance_scale": plan.guidance_scale,
        "size": f"{plan.width}x{plan.height}",
        "fps": plan.header.fps,
        "frames": frames if plan.header.fps else None,
        "latent_space": plan.header.latent_space_id,
        "latent_map": map_hash,
        "software": SOFTWARE,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def as_json(parameters: Parameters, *, ascii_only: bool = False) -> str:
    """Return the parameters as one line of JSON."""
    return json.dumps(parameters, ensure_ascii=ascii_only)
