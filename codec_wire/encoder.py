"""From latents to frames: one encoder per outgoing stream."""

from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.pipelines import Scales, numpy_math

if TYPE_CHECKING:
    from torch import Tensor

Latent: TypeAlias = "NDArray[np.generic] | Tensor"
"""One frame's latents, [channels, ...]: a NumPy array, or a torch tensor on any device."""


class LatentEncoder:
    """Makes the frames of one stream, in order, as its header's pipeline says.

    Frames of a torch tensor are quantized on the tensor's device. Not safe for use from two threads at once.
    """

    def __init__(self, header: LatentStreamHeader) -> None:
        self._header = header
        self._row = header.pipeline_spec
        self._dtype = header.dtype.numpy
        self._next_seq = 0
        self._ended = False
        # Arrays or tensors: whatever the frames are. A stream keeps to one kind.
        self._key_codes: Any = None
        self._divisors: Any = None

    def encode(self, latent: Latent, *, keyframe: bool, last: bool) -> LatentFrame:
        """Return the next frame. `latent` has the header's shape; the last one is `done`, with reason "ok".

        Raises InvalidLatents on NaN, Inf or a scale that fp16 cannot hold; ValueError when the caller breaks the
        order that the pipeline needs: a wrong shape, a frame after the last, a residual where none can be.
        """
        self._check_order(tuple(latent.shape), keyframe=keyframe)
        data = self._bytes_of(latent, keyframe=keyframe)
        frame = LatentFrame(
            data=data,
            seq=self._next_seq,
            keyframe=keyframe,
            done=last,
            finish_reason=FinishReason.OK if last else None,
        )
        self._next_seq += 1
        self._ended = last
        return frame

    def _check_order(self, shape: tuple[int, ...], *, keyframe: bool) -> None:
        row = self._row
        if self._ended:
            raise ValueError("the stream's last frame was already made")
        if shape != self._header.shape:
            raise ValueError(f"the stream's frames are {self._header.shape}, got {shape}")
        if not keyframe and (not row.delta or self._next_seq == 0):
            raise ValueError(f"frame {self._next_seq} of a {row.name} stream must be a keyframe")

    def _bytes_of(self, latent: Latent, *, keyframe: bool) -> bytes:
        row, math = self._row, _math_for(latent)
        values = math.cast(latent, self._dtype)
        own_scales = row.scales is Scales.PER_KEYFRAME and keyframe
        if not own_scales:  # taking scales looks for NaN and Inf by itself
            math.require_finite(values)
        if row.bits is None:
            return bytes(math.to_bytes(values))
        prefix = b""
        if own_scales:
            scales = math.channel_scales(values)
            prefix = math.to_bytes(scales)
            self._divisors = math.divisors(scales, self._dtype)
        elif self._divisors is None:
            self._divisors = self._static_divisors(latent)
        saturate = not (own_scales and self._dtype == np.float16)
        codes = math.quantize(values, self._divisors, row.max_code, saturate=saturate)
        if row.delta and keyframe:
            self._key_codes = codes
        elif row.delta:
            codes = math.residual(codes, self._key_codes, row.max_code)
        return prefix + bytes(math.pack(codes, row.bits))

    def _static_divisors(self, latent: Latent) -> Any:
        assert self._header.scales is not None  # noqa: S101 - the header was checked against its pipeline
        scales: Any = parse_scales(self._header.scales, self._header.shape[0])
        math = _math_for(latent)
        if not isinstance(latent, np.ndarray):
            scales = math.scales_to_device(latent.device, scales)
        return math.divisors(scales, self._dtype)


def _math_for(latent: Latent) -> ModuleType:
    """Return the arithmetic for the kind of `latent`; torch is imported only where a tensor shows it is there."""
    if isinstance(latent, np.ndarray):
        return numpy_math
    from codec_wire.pipelines import torch_math  # noqa: PLC0415 - a client or gateway has no torch

    return torch_math
