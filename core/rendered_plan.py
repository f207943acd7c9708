"""Plans of pictures and videos that are rendered here: the same streams, made into pixels instead of being sent."""

from dataclasses import replace

from codec_wire.errors import InvalidRequest, TooLarge, UnsupportedModality
from codec_wire.maps import LatentMapBundle
from codec_wire.request import SEEDS, GenerationRequest
from core.model import ModelInfo
from core.plan import StreamPlan, plan

MAX_RENDERED_PIXELS = 2**26
"""Pixels of one picture or video at most: 256 frames of 512x512. Unlike latents they are all in memory at once."""


def plan_rendered(
    request: GenerationRequest, count: int, bundle: LatentMapBundle, model: ModelInfo
) -> tuple[StreamPlan, ...]:
    """Return the plans of `count` pictures or videos as pixels, with the seeds from the request's own upwards.

    Each is the plan of the one generation with that seed: its pixels do not depend on how many there are.
    Raises what `plan` raises; UnsupportedModality where the model's latents cannot be rendered; TooLarge.
    """
    first = plan(request, bundle, model)
    made = tuple(str(modality) for modality in model.modalities)
    if not model.renders:
        raise UnsupportedModality(
            f"no pixels are made of {model.name} here: ask for its latents (modality {' or '.join(made)})",
            made,
        )
    if first.header.row.bits is not None:
        raise InvalidRequest("pipeline", f"pixels are made of raw latents, got {first.header.pipeline}")
    if first.seed + count > SEEDS:
        raise InvalidRequest("seed", f"must leave room for {count} seeds below {SEEDS}, got {first.seed}")
    pixels = first.width * first.height * first.pictures
    if pixels > MAX_RENDERED_PIXELS:
        raise TooLarge(
            f"{first.width}x{first.height}, {first.pictures} frames, are {pixels} pixels; at most "
            f"{MAX_RENDERED_PIXELS} are rendered: ask for a smaller size or fewer frames, or for latents"
        )
    return tuple(replace(first, seed=first.seed + index, rendered=True) for index in range(count))
