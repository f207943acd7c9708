"""Encoder that converts latents to the frames of one stream."""

from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.pipelines import Scales, numpy_math

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
            raise ValueError(f"latents must have the shape {self._header.shape}, got {shape}")
        if not keyframe and (not spec.delta or self._next_seq == 0):
            raise ValueError(f"frame {self._next_seq} of a {spec.name} stream must be a keyframe")

    def _encode_values(self, latent: Latent, *, keyframe: bool) -> bytes:
        spec = self._spec
        math, values = _cast(latent, self._dtype)
        frame_has_scales = spec.scales is Scales.PER_KEYFRAME and keyframe
        if not frame_has_scales:  # channel_scales checks this itself
            math.require_finite(values)
        if spec.bits is None:
            return math.to_bytes(values)  # type: ignore[no-any-return]
        prefix = b""
        if frame_has_scales:
            scales = math.channel_scales(values)
            prefix = math.to_bytes(scales)
            self._scaling = math.scaling(scales, self._dtype, spec.max_code)
        elif self._scaling is None:
            self._scaling = self._static_scaling(math, values)
        saturate = not (frame_has_scales and self._dtype == np.float16)
        codes = math.quantize(values, self._scaling, spec.max_code, saturate=saturate)
        if spec.delta and keyframe:
            self._key_codes = math.key_codes(codes, spec.max_code)
        elif spec.delta:
            codes = math.residual(codes, self._key_codes)
        data: bytes = math.pack(codes, spec.bits)
        return prefix + data if prefix else data

    def _static_scaling(self, math: ModuleType, values: Any) -> Any:
        data = self._header.scales
        assert data is not None  # noqa: S101 - checked by LatentStreamHeader
        if math is numpy_math:
            return _shared_scaling(data, self._header.shape, self._dtype, self._spec.max_code)
        scales = math.scales_to_device(values.device, parse_scales(data, self._header.shape[0]))
        return math.scaling(scales, self._dtype, self._spec.max_code)


@lru_cache(maxsize=8)
def _shared_scaling(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], max_code: int) -> numpy_math.Scaling:
    """Return static scales in the form that the function `quantize` needs.

    The result is cached, because streams with equal scales and frame shapes can share the result.
    """
    return numpy_math.scaling(parse_scales(data, shape[0]), dtype, max_code)


def _cast(latent: Latent, dtype: np.dtype[np.float16] | np.dtype[np.float32]) -> tuple[ModuleType, Any]:
    """Return the module that encodes `latent`, and the values of `latent` cast to `dtype`.

    The values have the shape [channels, n].

    The values are a NumPy array for the module numpy_math, or a tensor for torch_math. Tensors on the CPU are also
    encoded with NumPy, because NumPy is faster than torch on the CPU and needs no copy of a tensor. torch is imported
    only if `latent` is a tensor.
    """
    if isinstance(latent, np.ndarray):
        return numpy_math, numpy_math.cast(latent, dtype)
    from codec_wire.pipelines import torch_math  # noqa: PLC0415 - torch is optional

    if latent.device.type == "cpu":
        return numpy_math, numpy_math.cast(torch_math.to_dtype(latent, dtype).numpy(), dtype)
    return torch_math, torch_math.cast(latent, dtype)
