"""Encoder of latents to the frames of one stream."""

from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.pipelines import Scales, numpy_math

if TYPE_CHECKING:
    from torch import Tensor

Latent: TypeAlias = "NDArray[np.generic] | Tensor"
"""Latents of one frame, [channels, ...]: a NumPy array, or a torch tensor on any device."""


class LatentEncoder:
    """Encodes the frames of one stream, in order, with the pipeline named in its header.

    Torch tensors are quantized on their own device. Not thread-safe.
    """

    def __init__(self, header: LatentStreamHeader) -> None:
        self._header = header
        self._spec = header.pipeline_spec
        self._dtype = header.dtype.numpy
        self._next_seq = 0
        self._ended = False
        # NumPy arrays or torch tensors, like the frames of the stream.
        self._key_codes: Any = None
        self._divisors: Any = None

    def encode(self, latent: Latent, *, keyframe: bool, last: bool) -> LatentFrame:
        """Return the next frame. `latent` has the shape in the header, and any float dtype.

        With `last`, the frame has `done` and the finish_reason "ok". Raises InvalidLatents if `latent` contains NaN,
        Inf or a channel whose scale is not finite in fp16. Raises ValueError if the shape is wrong, the last frame was
        already encoded, or a frame that must be a keyframe is not one.
        """
        self._check_order(tuple(latent.shape), keyframe=keyframe)
        data = self._encode_values(latent, keyframe=keyframe)
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
        spec = self._spec
        if self._ended:
            raise ValueError("the last frame of the stream was already encoded")
        if shape != self._header.shape:
            raise ValueError(f"the shape must be {self._header.shape}, got {shape}")
        if not keyframe and (not spec.delta or self._next_seq == 0):
            raise ValueError(f"frame {self._next_seq} of a {spec.name} stream must be a keyframe")

    def _encode_values(self, latent: Latent, *, keyframe: bool) -> bytes:
        spec, math = self._spec, _math_for(latent)
        values = math.cast(latent, self._dtype)
        frame_has_scales = spec.scales is Scales.PER_KEYFRAME and keyframe
        if not frame_has_scales:  # channel_scales checks this itself
            math.require_finite(values)
        if spec.bits is None:
            return bytes(math.to_bytes(values))
        prefix = b""
        if frame_has_scales:
            scales = math.channel_scales(values)
            prefix = math.to_bytes(scales)
            self._divisors = math.divisors(scales, self._dtype)
        elif self._divisors is None:
            self._divisors = self._static_divisors(latent)
        saturate = not (frame_has_scales and self._dtype == np.float16)
        codes = math.quantize(values, self._divisors, spec.max_code, saturate=saturate)
        if spec.delta and keyframe:
            self._key_codes = codes
        elif spec.delta:
            codes = math.residual(codes, self._key_codes, spec.max_code)
        return prefix + bytes(math.pack(codes, spec.bits))

    def _static_divisors(self, latent: Latent) -> Any:
        assert self._header.scales is not None  # noqa: S101 - checked by LatentStreamHeader
        scales: Any = parse_scales(self._header.scales, self._header.shape[0])
        math = _math_for(latent)
        if not isinstance(latent, np.ndarray):
            scales = math.scales_to_device(latent.device, scales)
        return math.divisors(scales, self._dtype)


def _math_for(latent: Latent) -> ModuleType:
    """Return the arithmetic module for `latent`. torch is imported only if `latent` is a tensor."""
    if isinstance(latent, np.ndarray):
        return numpy_math
    from codec_wire.pipelines import torch_math  # noqa: PLC0415 - torch is optional

    return torch_math
