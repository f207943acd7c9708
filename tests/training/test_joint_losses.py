"""The losses of stage 7 for images and clips."""

from dataclasses import replace

import numpy as np
import torch
from diffusers import DDPMScheduler

from training.clips import FRAMES
from training.denoiser import NOISE
from training.joint_batches import Batch
from training.joint_losses import clip_loss, direction_loss, image_loss, movement
from training.joint_phases import MOTIONS_PHASE
from training.tokenizer import build_tokenizer
from training.video_denoiser import VideoDenoiser


def test_movement_is_the_part_of_an_error_that_differs_between_frames() -> None:
    error = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(movement(error + 7), movement(error))
    torch.testing.assert_close(movement(error), error.var(1, unbiased=False).mean((1, 2, 3)))
    assert movement(error[:, :1].expand(-1, 3, -1, -1, -1)).abs().max() < 1e-9


def test_direction_loss_is_high_unless_words_for_the_opposite_direction_give_a_larger_error() -> None:
    error = torch.randn(3, 4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    factors = torch.tensor([0.9, 1.0, 1.2])[:, None, None, None, None]
    smaller, equal, larger = direction_loss(error, error * factors).tolist()
    assert smaller > equal > larger
    assert equal == torch.tensor(2.0).log()
    assert larger < 1e-6


def test_direction_loss_increases_the_error_with_words_for_the_opposite_direction() -> None:
    error = torch.randn(1, 4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    misled = error.clone().requires_grad_()
    torch.autograd.backward(direction_loss(error, misled).sum())
    assert misled.grad is not None
    assert movement(misled.detach() - misled.grad) > movement(error)


def test_change_that_words_for_a_motion_cause_in_an_image_is_a_loss() -> None:
    torch.manual_seed(0)
    model = VideoDenoiser(build_tokenizer(), (16, 16, 32))
    text, latents = "a field by day, clouds drifting", torch.randn(1, 4, 16, 16)

    def loss(other: str | None, weight: float) -> float:
        batch = Batch(latents, [text], ["drift"], [other])
        return image_loss(model, DDPMScheduler(**NOISE), np.random.default_rng(0), batch, weight)[0].item()

    unchanged = loss(None, 5.0)
    assert loss(text, 5.0) == unchanged
    assert loss("a field by day", 0.0) == unchanged
    assert loss("a field by day", 5.0) > unchanged


def test_direction_of_a_clip_is_a_loss_if_it_has_a_caption_for_the_opposite_one() -> None:
    torch.manual_seed(0)
    model = VideoDenoiser(build_tokenizer(), (16, 16, 32))
    text, latents = "a snowy city at night, camera panning left", torch.randn(2, FRAMES, 4, 16, 16)
    phase = replace(MOTIONS_PHASE, high_noise_share=1.0)

    def loss(other: str | None) -> float:
        batch = Batch(latents, [text] * 2, ["pan_left"] * 2, [other] * 2)
        return clip_loss(model, DDPMScheduler(**NOISE), np.random.default_rng(0), batch, phase)[0].item()

    assert loss("a snowy city at night, camera panning right") > loss(None)
