"""Decoder that converts the frames of one stream to latents."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import MalformedMessage, SequenceError, StreamFailed, TruncatedStream
from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.pipelines import Scales, inverse
from codec_wire.pipelines.host import HOST

DecodedLatent = NDArray[np.float16] | NDArray[np.float32]


class LatentDecoder:
    """Decodes the frames of one stream, in order, to latents. The stream header states the shape of the latents."""

    def __init__(self, header: LatentStreamHeader) -> None:
        self._header = header
        self._spec = header.pipeline_spec
        self._dtype = header.dtype.numpy
        raw_fp32 = self._spec.bits is None and self._dtype != np.float16
        self._math = inverse if raw_fp32 else HOST.decoding
        self._next_seq = 0
        self._ended = False
        self._key_codes: Any = None  # KeyCodes of the module self._math
        self._scales: NDArray[np.float16] | None = None
        if header.scales is not None:
            self._scales = parse_scales(header.scales, header.shape[0])

    def decode(self, frame: LatentFrame) -> DecodedLatent:
        """Return the latents of `frame`, with the shape that the header states.

        Latents of the encoding pipeline `raw` have the dtype that the header states. Latents of all other encoding
        pipelines are float32.

        Raises SequenceError if the frame is out of order. Raises MalformedMessage if the data of the frame has the
        wrong size or contains an invalid value. Raises StreamFailed if the `finish_reason` of the frame is "error".
        """
        self._check_order(frame)
        if frame.finish_reason is FinishReason.ERROR:
            self._ended = True
            raise StreamFailed(f"the sender reported an error at frame {frame.seq}")
        size = self._spec.frame_size(self._header.shape, self._dtype.itemsize, keyframe=frame.keyframe)
        if len(frame.data) != size:
            raise MalformedMessage(f"data of frame {frame.seq} must have {size} bytes, got {len(frame.data)}")
        latent = self._decode_values(frame).reshape(self._header.shape)
        self._next_seq += 1
        self._ended = frame.done
        return latent

    def close(self) -> None:
        """Mark the end of the stream. Raises TruncatedStream if the last frame of the stream has not been decoded."""
        if not self._ended:
            raise TruncatedStream(f"the stream ended after {self._next_seq} frames, without a last frame (done: true)")

    def _check_order(self, frame: LatentFrame) -> None:
        header = self._header
        if self._ended:
            raise SequenceError(f"frame {frame.seq} was received after the last frame")
        if frame.seq != self._next_seq:
            raise SequenceError(f"expected frame {self._next_seq}, got frame {frame.seq}")
        if not frame.keyframe and (not header.pipeline_spec.delta or frame.seq == 0):
            raise SequenceError(f"frame {frame.seq} of a {header.pipeline} stream must be a keyframe")
        if header.total_frames is None or frame.finish_reason is FinishReason.ERROR:
            return
        complete = frame.seq + 1 == header.total_frames
        if complete and not frame.done:
            raise SequenceError(
                f"frame {frame.seq}: done must be true, because the header announces {header.total_frames} frames"
            )
        if frame.done and not complete and frame.finish_reason in (None, FinishReason.OK):
            raise SequenceError(
                f"frame {frame.seq}: done must be false, because the header announces {header.total_frames} frames"
            )

    def _decode_values(self, frame: LatentFrame) -> DecodedLatent:
        spec, math, data = self._spec, self._math, frame.data
        if spec.bits is None:
            values: DecodedLatent | None = math.finite_values(data, self._dtype)
            if values is None:
                raise MalformedMessage(f"frame {frame.seq} contains NaN or Inf")
            return values
        shape = self._header.shape
        codes_data = memoryview(data)
        if spec.scales is Scales.PER_KEYFRAME and frame.keyframe:
            self._scales = parse_scales(codes_data[: 2 * shape[0]], shape[0])
            codes_data = codes_data[2 * shape[0] :]
        codes = math.unpack(codes_data, spec.bits, shape[0], prod(shape[1:]))
        if spec.delta and frame.keyframe:
            self._key_codes = math.key_codes(codes, spec.max_code)
        elif spec.delta:
            codes = math.add_residual(self._key_codes, codes)
        latents: NDArray[np.float32] = math.dequantize(codes, self._scales, spec.max_code)
        return latents
