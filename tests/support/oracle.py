"""The published reference encoder, driven as a server would drive it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from codecai.server.latent_frame import LatentStreamEncoder
from numpy.typing import NDArray

from codec_wire import WireFormat
from codec_wire.latents import LatentStreamHeader


def reference_encoder(header: LatentStreamHeader, wire_format: WireFormat) -> Any:
    """Return the reference's encoder for a stream with this header."""
    return LatentStreamEncoder(
        header.latent_space_id,
        header.shape,
        str(header.dtype),
        header.pipeline,
        stream_format=str(wire_format),
        static_scales=None if header.scales is None else np.frombuffer(header.scales, "<f2"),
        fps=header.fps,
        total_frames=header.total_frames,
        vae_scale_factor=header.vae_scale_factor,
    )


def reference_messages(
    header: LatentStreamHeader, latents: Iterable[NDArray[Any]], keyframes: list[bool], wire_format: WireFormat
) -> list[bytes]:
    """Return the reference's bytes, message by message: the header, then a frame for each latent."""
    encoder = reference_encoder(header, wire_format)
    messages: list[bytes] = [encoder.header()]
    last = len(keyframes) - 1
    for seq, (latent, keyframe) in enumerate(zip(latents, keyframes, strict=True)):
        done = seq == last
        with np.errstate(all="ignore"):
            messages.append(
                encoder.frame(latent, seq=seq, keyframe=keyframe, done=done, finish_reason="ok" if done else None)
            )
    return messages
