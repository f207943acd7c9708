"""Decoder that converts the frames of one stream to latents."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import MalformedMessage, SequenceError, StreamFailed, TruncatedStream
from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.pipelines import Scales
from codec_wire.pipelines.inverse import KeyCodes, add_residual, dequantize, key_codes, unpack
from codec_wire.pipelines.numpy_math import all_finite

DecodedLatent = NDArray[np.float16] | NDArray[np.float32]


class LatentDecoder:
    """Decodes the frames of one stream, in order, to latents. The stream header states the shape of the latents."""

    def __init__(self, header: LatentStreamHeader) -> None:
        self._header = header
        self._next_seq = 0
        self._ended = False
        self._key_codes: KeyCodes | None = None
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
        size = self._header.pipeline_spec.frame_size(
            self._header.shape, self._header.dtype.numpy.itemsize, keyframe=frame.keyframe
        )
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
        spec, channels = self._header.pipeline_spec, self._header.shape[0]
        data = memoryview(frame.data)
        if spec.bits is None:
            values: DecodedLatent = np.frombuffer(data, self._header.dtype.numpy)  # type: ignore[assignment]
            if not all_finite(values):
                raise MalformedMessage(f"frame {frame.seq} contains NaN or Inf")
            return values
        if spec.scales is Scales.PER_KEYFRAME and frame.keyframe:
            self._scales = parse_scales(data[: 2 * channels], channels)
            data = data[2 * channels :]
        per_channel = prod(self._header.shape[1:])
        codes = unpack(data, spec.bits, channels, per_channel)
        if spec.delta and frame.keyframe:
            self._key_codes = key_codes(codes, spec.max_code)
        elif spec.delta:
            assert self._key_codes is not None  # noqa: S101 - frame 0 is a keyframe
            codes = add_residual(self._key_codes, codes)
        assert self._scales is not None  # noqa: S101 - from the header or frame 0
        return dequantize(codes, self._scales, spec.max_code)
