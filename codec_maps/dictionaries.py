"""Trains a zstd dictionary for the bodies of one wire format and pipeline."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import zstandard

from codec_maps.bodies import Body
from codec_wire import WireFormat, encode
from codec_wire.compression import ZSTD_LEVEL

TRAINED_BYTES = 4096
"""What training fills: tables of symbol frequencies and often seen values. docs/compression.md has other sizes."""
MAX_SAMPLE_BYTES = 128 * 1024
"""zstd looks no further than one block into a sample for its tables; the rest of a long video only takes time."""
SEGMENT, MATCH = 64, 8
"""COVER's k and d: the lengths of what is taken into the dictionary, and of what is counted. 32/6 and 200/8 differ
from it by less than 0.5 %. Given, the trainer searches nothing, and the same bodies make the same dictionary."""


def train(bodies: Sequence[Body], wire_format: WireFormat) -> bytes | None:
    """Return a dictionary for bodies like these, None where they are too few (zstd wants seven) or too small.

    It is what zstd's trainer makes of whole bodies, and after that what every body says: its header and the rest of
    its frames around the values. The trainer alone drops the latter where latents have large even areas.
    """
    samples: list[bytes | bytearray | memoryview] = [body.identity[:MAX_SAMPLE_BYTES] for body in bodies]
    if not samples:
        return None
    try:
        trained = zstandard.train_dictionary(
            TRAINED_BYTES, samples, k=SEGMENT, d=MATCH, level=ZSTD_LEVEL, dict_id=_number(bodies, wire_format)
        )
    except zstandard.ZstdError:
        return None
    return trained.as_bytes() + _envelopes(bodies, wire_format)


def _envelopes(bodies: Sequence[Body], wire_format: WireFormat) -> bytes:
    """Return each header among `bodies` once, the most frequent last, after an empty frame of each kind."""
    headers = [body.header for body in bodies]
    ranked = sorted(dict.fromkeys(headers), key=headers.count)
    longest = max(bodies, key=lambda body: len(body.frames))
    ends = {(frame.keyframe, frame.done): replace(frame, data=b"") for frame in longest.frames}
    empty = b"".join(encode(frame, wire_format) for frame in ends.values())
    return b"".join(empty + encode(header, wire_format) for header in ranked)


def _number(bodies: Sequence[Body], wire_format: WireFormat) -> int:
    """Return the dictionary's id: one of two bytes that is free for private use (RFC 8878, section 3.1.1.1.3)."""
    body = bodies[0]
    name = f"{body.header.latent_space_id} {wire_format} {body.header.pipeline}"
    return 0x8000 | int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
