"""More pictures than motion modules can see at once: FreeNoise (arXiv 2310.15169), as diffusers has it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.plan import StreamPlan

WINDOW, STRIDE = 16, 4
"""Pictures that are seen together, and how far the next window is: diffusers' own. Most adapters know 16."""


@contextmanager
def sliding_windows(pipeline: Any, plan: StreamPlan) -> Iterator[None]:
    """Have the motion modules of an AnimateDiff `pipeline` look through windows, where `plan` has too many pictures.

    Others are made as ever, all pictures seen together.
    """
    known = int(pipeline.motion_adapter.config.motion_max_seq_length)
    if plan.pictures <= known:
        yield
        return
    blocks = [
        (module.transformer_blocks, index, block)
        for module in _motion_modules(pipeline.unet)
        for index, block in enumerate(module.transformer_blocks)
    ]
    pipeline.enable_free_noise(context_length=min(WINDOW, known), context_stride=min(STRIDE, known))
    try:
        yield
    finally:
        # Its own disable_free_noise fails for adapters without motion modules in the middle, and copies the weights.
        for places, index, block in blocks:
            places[index] = block
        pipeline._free_noise_context_length = None


def _motion_modules(unet: Any) -> Iterator[Any]:
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        yield from getattr(block, "motion_modules", ())
