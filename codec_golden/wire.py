"""Golden latents through the real encoder, both envelopes and the real decoder."""

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
"""How a body arrives: in pieces of about what a network packet carries."""


@dataclass(frozen=True, slots=True)
class FixtureStream:
    """How one fixture travels by one pipeline."""

    header: LatentStreamHeader
    keyframes: tuple[bool, ...]

    @classmethod
    def of(
        cls, fixture: Fixture, shape: tuple[int, ...], bundle: LatentMapBundle, entry: MapPipeline
    ) -> "FixtureStream":
        """Return the stream that a server with the map `bundle` makes of `fixture`, its latents [C, h, w] a frame."""
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
    """Return the map's pipelines that can carry `fixture`."""
    return [
        entry for entry in bundle.latent_map.pipelines if fixture.kind == "video" or not entry.pipeline_spec.video_only
    ]


def body_of(plan: FixtureStream, latents: "Latents | Tensor | NDArray[Any]", wire_format: WireFormat) -> bytes:
    """Return the whole body that carries `latents` [frames, C, h, w]; a tensor is quantized on its own device.

    Raises InvalidLatents.
    """
    encoder = LatentEncoder(plan.header)
    parts = [encode(plan.header, wire_format)]
    last = len(plan.keyframes) - 1
    for seq, keyframe in enumerate(plan.keyframes):
        frame = encoder.encode(latents[seq], keyframe=keyframe, last=seq == last)
        parts.append(encode(frame, wire_format))
    return b"".join(parts)


def decode_body(body: bytes, wire_format: WireFormat) -> tuple[LatentStreamHeader, list[NDArray[Any]]]:
    """Return the header and each frame's latents of a whole body that arrives in pieces.

    Raises StreamError where it breaks the contract.
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
    assert header is not None  # noqa: S101 - the reader lets no stream end without one
    assert decoder is not None  # noqa: S101
    decoder.close()
    return header, latents


def reconstruction(body: bytes, wire_format: WireFormat) -> NDArray[np.float32]:
    """Return what a client gets of a body, float32 [frames, C, h, w]. Raises StreamError."""
    return np.stack(decode_body(body, wire_format)[1]).astype(np.float32)
