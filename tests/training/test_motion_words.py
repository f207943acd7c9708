"""The second loss of stage 7 teaches a UNet to pass on the words of a caption that name a motion."""

import numpy as np
import pytest
import torch

from training.motion_words import attention_layers
from training.optimizer import Optimizer
from training.scenes.labels import Motion
from training.tokenizer import build_tokenizer
from training.video_denoiser import VideoDenoiser

pytestmark = pytest.mark.slow

CAPTIONS = ["a city, camera panning left", "a city, camera zooming in", "a city"]
MOTIONS: list[Motion | None] = ["pan_left", "zoom", None]


@pytest.fixture
def model() -> VideoDenoiser:
    torch.manual_seed(0)
    return VideoDenoiser(build_tokenizer(), (16, 16, 32))


def denoise_images(model: VideoDenoiser) -> None:
    count = len(CAPTIONS)
    model(torch.randn(count, 4, 8, 8), torch.full((count,), 500), CAPTIONS)


def test_every_attention_layer_is_watched_in_images_and_in_videos(model: VideoDenoiser) -> None:
    names = [
        [name for name, module in unet.named_modules() if module in attention_layers(unet)]
        for unet in (model.unet, model.video_unet)
    ]
    assert names[0] == names[1]
    assert len(names[0]) == len(model.motion_words.heads)


def test_loss_of_a_clip_is_that_of_its_frames(model: VideoDenoiser) -> None:
    # An untrained adapter does not change the features.
    frames = torch.randn(2, 3, 4, 8, 8)
    timesteps = torch.tensor([300, 700])
    model.denoise_clips(frames, timesteps, CAPTIONS[:2], np.arange(3))
    of_clips = model.motion_words.loss(MOTIONS[:2])
    captions = [caption for caption in CAPTIONS[:2] for _ in range(3)]
    model(frames.flatten(0, 1), timesteps.repeat_interleave(3), captions)
    of_frames = model.motion_words.loss([motion for motion in MOTIONS[:2] for _ in range(3)])
    torch.testing.assert_close(of_clips, of_frames, atol=1e-4, rtol=1e-3)


def test_captions_that_name_no_motion_do_not_count(model: VideoDenoiser) -> None:
    denoise_images(model)
    assert model.motion_words.loss([None, None, None]).item() == 0
    noisy, timesteps = torch.randn(3, 4, 8, 8), torch.full((3,), 500)
    model(noisy, timesteps, CAPTIONS)
    all_captions = model.motion_words.loss(MOTIONS)
    model(noisy[:2], timesteps[:2], CAPTIONS[:2])
    torch.testing.assert_close(model.motion_words.loss(MOTIONS[:2]), all_captions, atol=1e-4, rtol=1e-3)


def test_training_makes_the_features_show_the_motion(model: VideoDenoiser) -> None:
    optimizer = Optimizer(model, 2e-3, muon=True)
    losses = []
    for _ in range(25):
        denoise_images(model)
        loss = model.motion_words.loss(MOTIONS)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(2e-3)
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_features_are_not_kept_without_gradients(model: VideoDenoiser) -> None:
    with torch.no_grad():
        denoise_images(model)
    with pytest.raises(KeyError):
        model.motion_words.loss(MOTIONS)
