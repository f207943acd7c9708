"""The denoiser of images that stage 7 trains together with its motion adapter."""

import numpy as np
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from transformers import CLIPTokenizer

from training.denoiser import CHANNELS, Denoiser
from training.motion import TRAINED_NAME, frame_positions, new_adapter
from training.motion_words import MotionWords


class VideoDenoiser(Denoiser):
    """Denoiser of images that also denoises clips; both uses share the weights of the UNet."""

    def __init__(self, tokenizer: CLIPTokenizer, channels: tuple[int, ...] = CHANNELS) -> None:
        """Create untrained networks for the vocabulary of `tokenizer`."""
        super().__init__(tokenizer, channels)
        self.video_unet = UNetMotionModel.from_unet2d(self.unet, new_adapter(channels))
        share_weights(self.unet, self.video_unet)
        self.motion_words = MotionWords(self.unet)
        self.motion_words.watch(self.unet)
        self.motion_words.watch(self.video_unet)

    def denoise_clips(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        captions: list[str],
        positions: np.ndarray[tuple[int], np.dtype[np.int64]],
    ) -> torch.Tensor:
        """Return the velocity of noisy clips [B, F, 4, h, w] at timesteps int64 [B].

        `positions`, int64 [F], are the positions of the frames in the video.
        """
        embeddings = self.encode_captions(captions).repeat_interleave(noisy.shape[1], dim=0)
        with frame_positions(self.video_unet, positions):
            # UNetMotionModel expects [B, 4, F, h, w].
            predicted: torch.Tensor = self.video_unet(noisy.transpose(1, 2), timesteps, embeddings).sample
        return predicted.transpose(1, 2)

    def adapter(self) -> MotionAdapter:
        """Return a copy of the motion adapter."""
        adapter = new_adapter(tuple(self.unet.config.block_out_channels))
        weights = {name: weight for name, weight in self.video_unet.state_dict().items() if TRAINED_NAME in name}
        adapter.load_state_dict(weights)
        return adapter


def share_weights(unet: UNet2DConditionModel, video_unet: UNetMotionModel) -> None:
    """Replace the weights of `video_unet` that `unet` also has by those of `unet`, to train both together."""
    shared = dict(unet.named_parameters())
    for name, _ in list(video_unet.named_parameters()):
        if name in shared:
            module, _, weight = name.rpartition(".")
            video_unet.get_submodule(module).register_parameter(weight, shared[name])
