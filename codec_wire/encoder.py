"""Encoder that converts latents to the frames of one stream."""

from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.pipelines import Scales, numpy_math
from codec_wire.pipelines.host import HOST

if TYPE_CHECKING:
    from torch import Tensor  # for type checkers only: codec_wire does not need torch

Latent: TypeAlias = "NDArray[np.generic] | Tensor"
"""Latents of one frame, as a NumPy array or a torch tensor on any device, with the shape [channels, ...]."""


class LatentEncoder:
    """Encodes latents as the frames of one stream, in order. The stream header states the encoding pipeline.

    A torch tensor on a GPU is quantized on that GPU. An encoder is not thread-safe.
    """

    def __init__(self, header: LatentStreamHeader) -> None:
        self._header = header
        self._spec = header.pipeline_spec
        self._dtype = header.dtype.numpy
        self._host_math = HOST.encoding if self._dtype == np.float16 else numpy_math
        self._next_seq = 0
        self._ended = False
        # NumPy arrays or torch tensors, like the frames of the stream.
        self._key_codes: Any = None
        self._scaling: Any = None

    def encode(self, latent: Latent, *, keyframe: bool, last: bool) -> LatentFrame:
        """Return the next frame of the stream, which contains `latent`.

        `latent` has the shape that the header states, and any float dtype. If `last` is true, the field `done` of the
        returned frame is true, and the field `finish_reason` is "ok".

        Raises InvalidLatents if `latent` contains NaN, Inf or a channel whose scale is not finite in fp16. Raises
        ValueError if the shape of `latent` differs from the shape in the header, or if the last frame was already
        encoded. Raises ValueError also if `keyframe` is false for a frame that must be a keyframe.
        """
        if self._ended or latent.shape != self._header.shape or not (keyframe or (self._spec.delta and self._next_seq)):
            raise self._order_error(tuple(latent.shape))
        frame = LatentFrame(
            self._encode_values(latent, keyframe=keyframe),
            self._next_seq,
            keyframe,
            last,
            FinishReason.OK if last else None,
        )
        self._next_seq += 1
        self._ended = last
        return frame

    def _order_error(self, shape: tuple[int, ...]) -> ValueError:
        """Return the error for latents with the shape `shape` that are refused."""
        if self._ended:
            return ValueError("the last frame of the stream was already encoded")
        if shape != self._header.shape:
            return ValueError(f"latents must have the shape {self._header.shape}, got {shape}")
        return ValueError(f"frame {self._next_seq} of a {self._spec.name} stream must be a keyframe")

    def _encode_values(self, latent: Latent, *, keyframe: bool) -> bytes:
        spec = self._spec
        math, values = _cast(latent, self._dtype, self._host_math)
        if spec.bits is None:
            return math.raw_bytes(values)  # type: ignore[no-any-return]
        values = values.reshape(values.shape[0], -1)
        frame_has_scales = keyframe and spec.scales is Scales.PER_KEYFRAME
        if not frame_has_scales:  # channel_scales checks this itself
            math.require_finite(values)
        prefix = b""
        if frame_has_scales:
            scales = math.channel_scales(values)
            prefix = math.to_bytes(scales)
            self._scaling = math.scaling(scales, self._dtype, spec.max_code)
        elif self._scaling is None:
            assert self._header.scales is not None  # noqa: S101 - checked by LatentStreamHeader
            scales = parse_scales(self._header.scales, self._header.shape[0])
            self._scaling = math.static_scaling(scales, values, spec.max_code)
        saturate = not (frame_has_scales and self._dtype == np.float16)
        codes = math.quantize(values, self._scaling, spec.max_code, saturate=saturate)
        if spec.delta and keyframe:
            self._key_codes = math.key_codes(codes, spec.max_code)
        elif spec.delta:
            codes = math.residual(codes, self._key_codes)
        data: bytes = math.pack(codes, spec.bits)
        return prefix + data if prefix else data


def _cast(
    latent: Latent, dtype: np.dtype[np.float16] | np.dtype[np.float32], host_math: ModuleType
) -> tuple[ModuleType, Any]:
    """Return the module that encodes `latent`, and the values of `latent` cast to `dtype`, in C order.

    The values are a NumPy array for the module `host_math`, or a tensor for torch_math. Tensors on the CPU are encoded
    as NumPy arrays too, because that is faster than torch on the CPU and needs no copy of a tensor. torch is imported
    only if `latent` is a tensor.
    """
    if isinstance(latent, np.ndarray):
        return host_math, numpy_math.cast(latent, dtype)
    from codec_wire.pipelines import torch_math  # noqa: PLC0415 - torch is optional

    if latent.device.type == "cpu":
        return host_math, numpy_math.cast(torch_math.to_dtype(latent, dtype).numpy(), dtype)
    return torch_math, torch_math.cast(latent, dtype)
