"""How latents come back from a pipeline, made into frames [frames, channels, height, width]."""

from typing import Any

from torch import Tensor

from core.plan import StreamPlan


def pictures(_pipeline: Any, output: Any, _plan: StreamPlan) -> Tensor:
    """[B, C, H, W] with one picture in the batch: one frame."""
    latents: Tensor = output.images
    return latents


def packed_pictures(pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """[B, H/2 * W/2, 4C], each token a patch of 2x2 cells: one frame."""
    latents: Tensor = pipeline._unpack_latents(output.images, plan.height, plan.width, pipeline.vae_scale_factor)
    return latents


def frames_first(_pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """[B, F, C, H, W]; frames beyond the planned ones are padding, and stand first."""
    latents: Tensor = output.frames[0]
    return latents[-plan.frames :]


def channels_first(_pipeline: Any, output: Any, _plan: StreamPlan) -> Tensor:
    """[B, C, F, H, W]."""
    latents: Tensor = output.frames[0]
    return latents.transpose(0, 1)


def packed_frames(pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """[B, F * H * W / patches, C * patches]."""
    _channels, height, width = plan.header.shape
    latents: Tensor = pipeline._unpack_latents(
        output.frames,
        plan.frames,
        height,
        width,
        pipeline.transformer_spatial_patch_size,
        pipeline.transformer_temporal_patch_size,
    )
    return latents[0].transpose(0, 1)
