"""Conversion between golden latents and complete bodies, with the encoder of the server and the decoder of clients."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codec_golden.fixtures import Fixture
from codec_golden.storage import Latents
from codec_wire import StreamReader, WireFormat, encode
from codec_wire.decoder import LatentDecoder
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentStreamHeader
from codec_wire.maps import LatentMapBundle, MapPipeline
from codec_wire.request import DEFAULT_KEYFRAME_INTERVAL

if TYPE_CHECKING:
    from torch import Tensor

PIECE_BYTES = 1400
"""Size in bytes of the pieces of a body that the decoder receives. A piece is about as large as a network packet."""


@dataclass(frozen=True, slots=True)
class FixtureStream:
    """The header of a stream, and a flag for each frame that states whether the frame is a keyframe."""

    header: LatentStreamHeader
    keyframes: tuple[bool, ...]

    @classmethod
    def of(
        cls, fixture: Fixture, shape: tuple[int, ...], bundle: LatentMapBundle, entry: MapPipeline
    ) -> "FixtureStream":
        """Return the stream of `fixture` with the encoding pipeline `entry`.

        `shape` is the shape of one latent frame, [C, h, w].
        """
        interval = min(DEFAULT_KEYFRAME_INTERVAL, entry.keyframe_interval_frames or DEFAULT_KEYFRAME_INTERVAL)
        return cls(
            LatentStreamHeader(
                latent_space_id=bundle.latent_map.id,
                shape=shape,
                dtype=bundle.latent_map.dtype,
                pipeline=entry.name,
                scales=bundle.static_scales(entry.name),
                fps=fixture.fps,
                total_frames=fixture.frames,
            ),
            tuple(not entry.pipeline_spec.delta or seq % interval == 0 for seq in range(fixture.frames)),
        )


def usable_pipelines(bundle: LatentMapBundle, fixture: Fixture) -> list[MapPipeline]:
    """Return the map's encoding pipelines that support the fixture's modality."""
    is_video = fixture.kind == "video"
    return [entry for entry in bundle.latent_map.pipelines if is_video or not entry.pipeline_spec.video_only]


def encode_body(stream: FixtureStream, latents: "Latents | Tensor | NDArray[Any]", wire_format: WireFormat) -> bytes:
    """Return a complete body with `latents` [frames, C, h, w]. A tensor is quantized on its own device.

    Raises InvalidLatents if `latents` cannot be encoded.
    """
    encoder = LatentEncoder(stream.header)
    parts = [encode(stream.header, wire_format)]
    last = len(stream.keyframes) - 1
    for seq, keyframe in enumerate(stream.keyframes):
        frame = encoder.encode(latents[seq], keyframe=keyframe, last=seq == last)
        parts.append(encode(frame, wire_format))
    return b"".join(parts)


def decode_body(body: bytes, wire_format: WireFormat) -> tuple[LatentStreamHeader, list[NDArray[Any]]]:
    """Return the header of a complete body and the latents [C, h, w] of each frame.

    The decoder receives the body in pieces of PIECE_BYTES bytes.

    Raises StreamError if the body is not a valid stream.
    """
    reader = StreamReader(wire_format)
    header: LatentStreamHeader | None = None
    decoder: LatentDecoder | None = None
    latents: list[NDArray[Any]] = []
    for start in range(0, len(body), PIECE_BYTES):
        for message in reader.feed(body[start : start + PIECE_BYTES]):
            if isinstance(message, LatentStreamHeader):
                header, decoder = message, LatentDecoder(message)
            elif decoder is not None:
                latents.append(decoder.decode(message))
    reader.close()
    assert header is not None  # noqa: S101 - reader.close() raises if the header is missing
    assert decoder is not None  # noqa: S101
    decoder.close()
    return header, latents


def reconstruction(body: bytes, wire_format: WireFormat) -> NDArray[np.float32]:
    """Return the latents that a client decodes from a complete body, float32 [frames, C, h, w].

    Raises StreamError if the body is not a valid stream.
    """
    return np.stack(decode_body(body, wire_format)[1]).astype(np.float32)
