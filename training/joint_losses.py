"""Losses of stage 7 for still images and for clips.

The words of a pan hardly lower the loss of the latents: as soon as the noisy clip shows the scene, it also shows the
direction. With that loss alone, the words for other motions were followed after 5,000 steps, but pans went in a random
direction. `direction_loss` compares two predictions from the same noisy clip, so that only the words make a difference.
"""

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch.nn import functional

from training.clips import FRAMES
from training.denoiser import stratified_timesteps
from training.joint_batches import Batch
from training.joint_phases import Phase
from training.motion import FRAMES_PER_STEP
from training.runtime import mixed_precision, torch_rng
from training.video_denoiser import VideoDenoiser

DIRECTION_WEIGHT, DIRECTION_SLOPE = 0.05, 50.0
DIRECTION_FROM = 400  # timestep; at lower noise levels the direction can be seen in the noisy frames


def clip_timesteps(rng: np.random.Generator, count: int, high_noise_share: float) -> torch.Tensor:
    """Return one random timestep per clip, int64 [count], sometimes more of them at high noise levels.

    There the words decide on the motion. At low noise levels the motion can be seen in the noisy frames; there, frames
    must learn not to flicker.
    """
    uniform = stratified_timesteps(rng, count)
    return (1000 * (uniform / 1000).sqrt()).long() if rng.random() < high_noise_share else uniform


def frames_of_step(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the positions of the frames of a step, int64 [FRAMES_PER_STEP]: random ones or consecutive ones.

    Random positions are symmetric, so that a clip played backwards has the same frames in reverse order.
    """
    if rng.random() < 0.5:
        early = rng.choice(FRAMES // 2, FRAMES_PER_STEP // 2, replace=False)
        return np.sort(np.concatenate([early, FRAMES - 1 - early]))
    return rng.integers(FRAMES - FRAMES_PER_STEP + 1) + np.arange(FRAMES_PER_STEP)


def image_loss(
    model: VideoDenoiser, scheduler: DDPMScheduler, rng: np.random.Generator, batch: Batch, same_image_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of the latents and of the motion words for still images with random noise.

    With `same_image_weight`, words for a motion must not change the prediction. Guidance multiplies any change: a
    static field with drifting clouds was drawn as patches.
    """
    device = model.unet.device
    clean = batch.latents.to(device).float()
    noise = torch.randn(clean.shape, generator=torch_rng(rng, device), device=device)
    timesteps = stratified_timesteps(rng, len(clean)).to(device)
    noisy = scheduler.add_noise(clean, noise, timesteps)
    with mixed_precision(device):
        predicted = model(noisy, timesteps, batch.captions)
    loss = functional.mse_loss(predicted.float(), scheduler.get_velocity(clean, noise, timesteps))
    plain = {index: text for index, text in enumerate(batch.others) if text is not None}
    if plain and same_image_weight:
        images = torch.tensor(list(plain))
        with torch.no_grad(), mixed_precision(device):
            unchanged = model(noisy[images], timesteps[images], list(plain.values()))
        loss = loss + same_image_weight * functional.mse_loss(predicted[images].float(), unchanged.float())
    return loss, model.motion_words.loss(batch.motions)


def clip_loss(
    model: VideoDenoiser, scheduler: DDPMScheduler, rng: np.random.Generator, batch: Batch, phase: Phase
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of the latents and of the motion words for frames of clips with random noise.

    Most of the error is the same in all frames, because the noise hides what the scene looks like. What differs between
    the frames, their movement and their flicker, has a higher weight. The best prediction is the same with any weights.
    """
    device = model.unet.device
    whole = rng.random() < phase.whole_share[batch.latents.shape[-1]]
    positions = np.arange(FRAMES) if whole else frames_of_step(rng)
    batch = batch.first(2) if whole else batch
    clean = batch.latents[:, torch.from_numpy(positions)].to(device).float()
    noise = torch.randn(clean.shape, generator=torch_rng(rng, device), device=device)
    timesteps = clip_timesteps(rng, len(clean), phase.high_noise_share).to(device)
    # With symmetric positions, a clip and the same clip played backwards have the same noisy frames in opposite order.
    # Only the words can tell which is which.
    noise[1::2], timesteps[1::2] = noise[::2].flip(1), timesteps[::2]
    noisy = scheduler.add_noise(clean, noise, timesteps)
    with mixed_precision(device):
        predicted = model.denoise_clips(noisy, timesteps, batch.captions, positions)
    target = scheduler.get_velocity(clean, noise, timesteps)
    error = predicted.float() - target
    loss = error.square().mean() + phase.movement_weight * movement(error).mean()
    words = model.motion_words.loss(batch.motions)
    opposites = {
        index: opposite
        for index, opposite in enumerate(batch.others)
        if opposite is not None and timesteps[index] > DIRECTION_FROM
    }
    if opposites:
        clips = torch.tensor(list(opposites))
        with mixed_precision(device):
            misled = model.denoise_clips(noisy[clips], timesteps[clips], list(opposites.values()), positions)
        model.motion_words.discard()
        directions = direction_loss(error[clips], misled.float() - target[clips])
        loss = loss + DIRECTION_WEIGHT * directions.sum() / len(clean)
    return loss, words


def movement(error: torch.Tensor) -> torch.Tensor:
    """Return the mean square, [B], of that part of an error [B, F, 4, h, w] which differs between the frames."""
    return (error - error.mean(1, keepdim=True)).square().mean((1, 2, 3, 4))


def direction_loss(error: torch.Tensor, misled: torch.Tensor) -> torch.Tensor:
    """Return the loss, [B], of clips whose direction the words must decide.

    `error`, [B, F, 4, h, w], is the error of a prediction, and `misled` that of the prediction from the same noisy clip
    with words for the opposite direction. The loss is high if `misled` is not larger than `error`.
    """
    expected = movement(error)
    excess = (movement(misled) - expected) / expected.detach()
    return functional.softplus(-DIRECTION_SLOPE * excess)
