"""Sampling of AnimateDiff videos with more frames than the motion modules support, by FreeNoise (arXiv 2310.15169)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.plan import StreamPlan

WINDOW, STRIDE = 16, 4
"""Number of frames in one attention window, and number of frames from the start of one window to the start of the next.

In diffusers, windows have 16 frames by default, and the default stride is 4 frames.
"""


@contextmanager
def sliding_windows(pipeline: Any, plan: StreamPlan) -> Iterator[None]:
    """Enable FreeNoise in the AnimateDiff `pipeline` if `plan` has more frames than the motion adapter supports.

    If the motion adapter supports all frames of `plan`, the pipeline is unchanged, and all frames attend to each other.
    """
    limit = int(pipeline.motion_adapter.config.motion_max_seq_length)
    if plan.num_frames <= limit:
        yield
        return
    blocks = [
        (module.transformer_blocks, index, block)
        for module in _motion_modules(pipeline.unet)
        for index, block in enumerate(module.transformer_blocks)
    ]
    pipeline.enable_free_noise(context_length=min(WINDOW, limit), context_stride=min(STRIDE, limit))
    try:
        yield
    finally:
        # pipeline.disable_free_noise() fails for adapters without motion modules in the middle block, and copies the
        # weights. Restore the original blocks instead.
        for container, index, block in blocks:
            container[index] = block
        pipeline._free_noise_context_length = None


def _motion_modules(unet: Any) -> Iterator[Any]:
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        yield from getattr(block, "motion_modules", ())
