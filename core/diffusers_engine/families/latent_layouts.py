"""Conversion of a pipeline's output to latents [latent_frames, channels, height, width], with a function per layout.

In the shapes of this module, B is the batch size, which is always 1. F is the number of latent frames, C the number of
channels, and H and W are the height and width in latent cells.
"""

from typing import Any

import torch
from torch import Tensor

from core.plan import StreamPlan


def image(_pipeline: Any, output: Any, _plan: StreamPlan) -> Tensor:
    """Convert the latents [B, C, H, W] of an image."""
    latents: Tensor = output.images
    return latents


def packed_image(pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """Convert the latents [B, H/2 * W/2, 4C] of an image, where each token is a patch of 2x2 cells."""
    latents: Tensor = pipeline._unpack_latents(output.images, plan.height, plan.width, pipeline.vae_scale_factor)
    return latents


def packed_image_of_one_frame(pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """Convert the latents [B, H/2 * W/2, 4C] of an image whose VAE also has an axis for frames."""
    return packed_image(pipeline, output, plan)[:, :, 0]


def flux2_image(pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """Convert the latents of FLUX.2 to the layout [B, C, H, W], which is the input of FLUX.2's VAE.

    FLUX.2 latents with four axes already have the layout [B, C, H, W]. FLUX.2 latents with three axes are tokens
    [B, H/2 * W/2, 4C] that are normalized with the statistics of the VAE.
    """
    latents: Tensor = output.images
    if latents.dim() == 4:
        return latents
    _channels, height, width = plan.header.shape
    latents = latents.transpose(1, 2).reshape(len(latents), -1, height // 2, width // 2)
    norm = pipeline.vae.bn
    mean, variance = (values.view(1, -1, 1, 1) for values in (norm.running_mean, norm.running_var))
    deviation = torch.sqrt(variance + pipeline.vae.config.batch_norm_eps)
    latents = latents * deviation.to(latents.device, latents.dtype) + mean.to(latents.device, latents.dtype)
    unpacked: Tensor = pipeline._unpatchify_latents(latents)
    return unpacked


def frames_first_video(_pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """Convert the latents [B, F, C, H, W] of a video. Padding frames that CogVideoX has prepended are dropped."""
    latents: Tensor = output.frames[0]
    return latents[-plan.latent_frames :]


def channels_first_video(_pipeline: Any, output: Any, _plan: StreamPlan) -> Tensor:
    """Convert the latents [B, C, F, H, W] of a video."""
    latents: Tensor = output.frames[0]
    return latents.transpose(0, 1)


def channels_first_video_after_references(pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """Convert the latents [B, C, R + F, H, W] of a video, where R is the number of reference images."""
    return channels_first_video(pipeline, output, plan)[-plan.latent_frames :]


def packed_video(pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    """Convert the latents [B, F * H * W / p, C * p] of a video, where each token is a patch of p cells."""
    _channels, height, width = plan.header.shape
    latents: Tensor = pipeline._unpack_latents(
        output.frames,
        plan.latent_frames,
        height,
        width,
        pipeline.transformer_spatial_patch_size,
        pipeline.transformer_temporal_patch_size,
    )
    return latents[0].transpose(0, 1)


def channels_last_video(_pipeline: Any, output: Any, _plan: StreamPlan) -> Tensor:
    """Convert the latents [B, F, H, W, C] of a video."""
    latents: Tensor = output.frames[0]
    return latents.permute(0, 3, 1, 2)


def channels_last_image(_pipeline: Any, output: Any, _plan: StreamPlan) -> Tensor:
    """Convert the latents [B, 1, H, W, C] of an image."""
    latents: Tensor = output.images[:, 0]
    return latents.permute(0, 3, 1, 2)
