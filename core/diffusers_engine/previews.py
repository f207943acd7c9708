"""Previews of a running generation, which are computed from the clean estimates of the sampling steps."""

from collections.abc import Iterator

from torch import Tensor

from codec_wire.encoder import LatentEncoder
from codec_wire.errors import InvalidLatents
from codec_wire.events import Preview, preview_header
from core.plan import StreamPlan


def preview_events(plan: StreamPlan, step: tuple[int, int], estimate: Tensor) -> Iterator[Preview]:
    """Yield the previews of `estimate`, the clean estimate [latent_frames, C, h, w] of a step.

    `step` is a pair of the number of completed steps and the total number of steps. There is one preview for each
    latent frame. Nothing is yielded if the estimate contains NaN or infinite values. With some schedules, the first
    estimates contain NaN or infinite values.
    """
    try:
        encoder = LatentEncoder(preview_header(plan.header))
        for seq, latent in enumerate(estimate):
            yield Preview(*step, encoder.encode(latent, keyframe=True, last=seq == plan.latent_frames - 1))
    except InvalidLatents:
        return
