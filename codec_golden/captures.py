"""Reader of captured latents, which are stored as fp16 values or as complete response bodies of a server."""

from pathlib import Path

import numpy as np

from codec_golden.storage import Latents, latents_from_bytes
from codec_golden.wire import decode_body
from codec_wire import WireFormat
from codec_wire.errors import InvalidSettings, StreamError

SUFFIXES = {".bin": None, ".msgpack": WireFormat.MSGPACK, ".protobuf": WireFormat.PROTOBUF}
"""Wire format of a capture file, in a dictionary by the suffix of the file name.

The value None means that a capture file contains only fp16 values.
"""


def has_capture(folder: Path, key: str) -> bool:
    """Return whether `folder` contains a capture file for the fixture with the name `key`."""
    return any((folder / f"{key}{suffix}").is_file() for suffix in SUFFIXES)


def read_capture(folder: Path, key: str, latent_space: str, shape: tuple[int, ...]) -> tuple[Latents, str] | None:
    """Return the captured latents of the fixture `key`, and the name of the capture file in `folder`.

    Return None if `folder` contains no capture file for the fixture. `shape` is [frames, C, h, w]. The file `KEY.bin`
    contains little-endian fp16 values. The files `KEY.msgpack` and `KEY.protobuf` contain a complete, uncompressed
    response body. Raises InvalidSettings if the content of the file does not match the fixture.
    """
    for suffix, wire_format in SUFFIXES.items():
        path = folder / f"{key}{suffix}"
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
        raise InvalidSettings(f"{path} is not a valid {wire_format} body: {error}") from None
    for name, expected, received in (
        ("latent space", latent_space, header.latent_space_id),
        ("pipeline", "raw", header.pipeline),  # the other pipelines are lossy
        ("shape", shape, (len(latents), *header.shape)),
    ):
        if received != expected:
            raise InvalidSettings(f"{path}: the {name} must be {expected}, got {received}")
    return np.stack(latents).astype(np.float16)
