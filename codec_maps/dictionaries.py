"""Training of zstd dictionaries for the bodies of one wire format and encoding pipeline."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import zstandard

from codec_maps.bodies import Body
from codec_wire import WireFormat, encode
from codec_wire.compression import ZSTD_LEVEL

TRAINED_BYTES = 4096
"""Size in bytes of the trained part of a dictionary. docs/compression.md compares sizes.

The trained part contains entropy tables and frequent values.
"""
MAX_SAMPLE_BYTES = 128 * 1024
"""Size in bytes to which samples are truncated, because the trainer reads only the first block of each sample."""
SEGMENT, MATCH = 64, 8
"""Parameters k (segment length) and d (match length) of zstd's COVER algorithm.

The parameters are fixed so that the same bodies produce the same dictionary. Other parameters, such as 32 and 6 or 200
and 8, change the sizes of bodies by less than 0.5 %.
"""


def train_dictionary(bodies: Sequence[Body], wire_format: WireFormat) -> bytes | None:
    """Return a zstd dictionary trained on `bodies`.

    Return None if there are fewer than seven bodies, or if the bodies are too small.

    The headers and empty frames of the bodies are appended to the trained part. The trainer omits headers and empty
    frames if the latents contain large uniform areas.
    """
    samples: list[bytes | bytearray | memoryview] = [body.identity[:MAX_SAMPLE_BYTES] for body in bodies]
    if not samples:
        return None
    try:
        trained = zstandard.train_dictionary(
            TRAINED_BYTES, samples, k=SEGMENT, d=MATCH, level=ZSTD_LEVEL, dict_id=_dictionary_id(bodies[0], wire_format)
        )
    except zstandard.ZstdError:
        return None
    return trained.as_bytes() + _envelopes(bodies, wire_format)


def _envelopes(bodies: Sequence[Body], wire_format: WireFormat) -> bytes:
    """Return the bytes of all distinct headers, with the most frequent header at the end.

    Frames without data stand before each header: one frame for each combination of `keyframe` and `done`.
    """
    headers = [body.header for body in bodies]
    by_frequency = sorted(dict.fromkeys(headers), key=headers.count)
    longest = max(bodies, key=lambda body: len(body.frames))
    empty_frames = {(frame.keyframe, frame.done): replace(frame, data=b"") for frame in longest.frames}
    frames = b"".join(encode(frame, wire_format) for frame in empty_frames.values())
    return b"".join(frames + encode(header, wire_format) for header in by_frequency)


def _dictionary_id(body: Body, wire_format: WireFormat) -> int:
    """Return a dictionary id of two bytes, from the range for private use (RFC 8878, section 3.1.1.1.3)."""
    name = f"{body.header.latent_space_id} {wire_format} {body.header.pipeline}"
    return 0x8000 | int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
