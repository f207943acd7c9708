"""Latent streams as a client sends them to the server, with random latents."""

from collections.abc import Iterator

import numpy as np

from codec_wire import WireFormat, encode
from codec_wire.encoder import LatentEncoder
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import LatentDtype, LatentFrame, LatentStreamHeader
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from tests.support.serving import LATENT_SPACE, SCALES

Stream = tuple[LatentStreamHeader, list[LatentFrame]]


def random_stream(
    pipeline: str = "raw",
    num_frames: int = 1,
    *,
    latent_space: str = LATENT_SPACE,
    shape: tuple[int, ...] = (4, 6, 8),
    fps: int | None = None,
) -> Stream:
    """Return a stream of normal noise; one with more than one frame has `fps` 12 unless it is given."""
    header = LatentStreamHeader(
        latent_space,
        shape,
        LatentDtype.FP16,
        pipeline,
        scales=SCALES if pipeline in ("int8", "int4") else None,
        fps=fps or (12 if num_frames > 1 else None),
        total_frames=num_frames,
    )
    encoder, rng = LatentEncoder(header), np.random.default_rng(num_frames)
    frames = [
        encoder.encode(
            rng.standard_normal(shape).astype(np.float16),
            keyframe=seq == 0 or not header.pipeline_spec.delta,
            last=seq == num_frames - 1,
        )
        for seq in range(num_frames)
    ]
    return header, frames


def decode_requests_of(stream: Stream, options: pb.DecodeOptions | None = None) -> Iterator[pb.DecodeRequest]:
    """Return the messages of a call of Decode that sends a stream as a header and frames."""
    header, frames = stream
    yield pb.DecodeRequest(header=header_to_message(header), options=options)
    for frame in frames:
        yield pb.DecodeRequest(frame=frame_to_message(frame))


def body_of(stream: Stream, wire_format: WireFormat = WireFormat.MSGPACK) -> bytes:
    """Return the uncompressed body of a stream."""
    header, frames = stream
    return encode(header, wire_format) + b"".join(encode(frame, wire_format) for frame in frames)
