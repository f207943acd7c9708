"""Previews of a running generation, made of the clean estimates of its steps."""

from collections.abc import Iterator

from torch import Tensor

from codec_wire.encoder import LatentEncoder
from codec_wire.errors import InvalidLatents
from codec_wire.events import Preview, preview_header
from core.plan import StreamPlan


def preview_events(plan: StreamPlan, step: tuple[int, int], estimate: Tensor) -> Iterator[Preview]:
    """Yield the previews of `estimate` [latent_frames, C, h, w], that of `step`: (completed, total).

    There is one for each latent frame. An estimate with values that are not finite, as the first ones of some schedules
    are, has none.
    """
    try:
        encoder = LatentEncoder(preview_header(plan.header))
        for seq, latent in enumerate(estimate):
            yield Preview(*step, encoder.encode(latent, keyframe=True, last=seq == plan.latent_frames - 1))
    except InvalidLatents:
        return
