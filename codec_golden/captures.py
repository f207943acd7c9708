"""Latents that were captured elsewhere: raw fp16 files, or the bodies that a latent server answered with."""

from pathlib import Path

import numpy as np

from codec_golden.storage import Latents, latents_from_bytes
from codec_golden.wire import decode_body
from codec_wire import WireFormat
from codec_wire.errors import InvalidSettings, StreamError

SUFFIXES = {".bin": None, ".msgpack": WireFormat.MSGPACK, ".protobuf": WireFormat.PROTOBUF}
"""What a file holds, by its ending: the latents themselves, or the body of an answer."""


def has_capture(folder: Path, key: str) -> bool:
    """Return whether `folder` holds a file for fixture `key`."""
    return any((folder / f"{key}{ending}").is_file() for ending in SUFFIXES)


def read_capture(folder: Path, key: str, latent_space: str, shape: tuple[int, ...]) -> tuple[Latents, str] | None:
    """Return the latents of fixture `key` in `folder` and the name of their file, None where there are none.

    `shape` is [frames, C, h, w]. `KEY.bin` holds little-endian fp16 values; `KEY.msgpack` and `KEY.protobuf` hold the
    whole body of an answer, uncompressed. Raises InvalidSettings for a file that holds something else.
    """
    for ending, wire_format in SUFFIXES.items():
        path = folder / f"{key}{ending}"
        if path.is_file():
            data = path.read_bytes()
            if wire_format is None:
                return latents_from_bytes(data, shape, path), path.name
            return _read_response_body(data, wire_format, latent_space, shape, path), path.name
    return None


def _read_response_body(
    data: bytes, wire_format: WireFormat, latent_space: str, shape: tuple[int, ...], path: Path
) -> Latents:
    try:
        header, latents = decode_body(data, wire_format)
    except StreamError as error:
        raise InvalidSettings(f"{path} is no {wire_format} body: {error}") from None
    for what, expected, came in (
        ("latent space", latent_space, header.latent_space_id),
        ("pipeline", "raw", header.pipeline),  # any other one has already changed what the model made
        ("shape", shape, (len(latents), *header.shape)),
    ):
        if came != expected:
            raise InvalidSettings(f"{path}: the {what} must be {expected}, got {came}")
    return np.stack(latents).astype(np.float16)
