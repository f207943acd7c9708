"""The test oracle: bytes of the published reference encoder (codecai) for a given header and latents."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from codecai.server.latent_frame import LatentStreamEncoder
from numpy.typing import NDArray

from codec_wire import WireFormat
from codec_wire.latents import LatentStreamHeader


def reference_encoder(header: LatentStreamHeader, wire_format: WireFormat) -> Any:
    """Return the reference encoder for a stream with this header."""
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
    """Encode a whole stream with the reference encoder; return its messages, the header first.

    `latents` are arrays of the header's shape; `keyframes` states for each of them whether it is a keyframe.
    """
    encoder = reference_encoder(header, wire_format)
    messages: list[bytes] = [encoder.header()]
    last = len(keyframes) - 1
    for seq, (latent, keyframe) in enumerate(zip(latents, keyframes, strict=True)):
        done = seq == last
        with np.errstate(all="ignore"):  # the reference warns about scales of zero and overflows
            messages.append(
                encoder.frame(latent, seq=seq, keyframe=keyframe, done=done, finish_reason="ok" if done else None)
            )
    return messages
