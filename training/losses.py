"""Perceptual image losses, computed from the images themselves without a pretrained network."""

import torch
from torch.nn import functional

SSIM_WINDOW = 7  # scikit-image's default, so that the loss equals the metric that training.finish_vae reports
TEXTURE_WINDOW = 8


def structural_similarity(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean SSIM of two batches [B, C, H, W] with values in [-1, 1].

    Formula: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, with a
    uniform window and sample covariance as in scikit-image.
    """
    output, target = output + 1, target + 1  # the metric compares mean brightness relative to black
    samples = SSIM_WINDOW**2
    stability_mean, stability_variance = (0.01 * 2) ** 2, (0.03 * 2) ** 2

    def windowed_mean(values: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(values, SSIM_WINDOW, stride=1)

    mean_output, mean_target = windowed_mean(output), windowed_mean(target)
    unbiased = samples / (samples - 1)
    variance_output = unbiased * (windowed_mean(output * output) - mean_output**2)
    variance_target = unbiased * (windowed_mean(target * target) - mean_target**2)
    covariance = unbiased * (windowed_mean(output * target) - mean_output * mean_target)
    luminance = (2 * mean_output * mean_target + stability_mean) / (mean_output**2 + mean_target**2 + stability_mean)
    structure = (2 * covariance + stability_variance) / (variance_output + variance_target + stability_variance)
    return (luminance * structure).mean()


def texture_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return how much two batches [B, C, H, W] differ in local gradient magnitude.

    Magnitudes are averaged over windows of 8x8 pixels. Latents cannot store the exact position of fine detail (stars,
    snow, windows); with this loss, detail at a slightly different position is better than a blur.
    """
    return (_local_gradient(output) - _local_gradient(target)).abs().mean()


def _local_gradient(images: torch.Tensor) -> torch.Tensor:
    down, across = images.diff(dim=2)[..., :-1], images.diff(dim=3)[:, :, :-1]
    magnitude = (down * down + across * across + 1e-6).sqrt()
    return functional.avg_pool2d(magnitude, TEXTURE_WINDOW, stride=TEXTURE_WINDOW // 2)
