"""Latent-space maps with a zstd dictionary."""

import json
from typing import Any

import zstandard

from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import sha256
from tests.support.serving import MODEL, bundle_of

DICTIONARY = zstandard.train_dictionary(
    2048, [bytes(range(index % 50, 256)) * 4 + index.to_bytes(4, "big") for index in range(200)]
).as_bytes()
DIGEST = sha256(DICTIONARY)


def with_dictionary(
    bundle: LatentMapBundle,
    pipeline: str = "int8",
    data: bytes = DICTIONARY,
    url: str | None = None,
    wire_format: str = "msgpack",
) -> LatentMapBundle:
    """Return `bundle` with the dictionary `data` for bodies of `pipeline` in `wire_format`.

    `url` is the dictionary's URL in the map; by default, the path at which a server publishes it.
    """
    digest = sha256(data)
    document: dict[str, Any] = json.loads(bundle.document)
    document["zstd_dictionaries"] = [
        {
            "format": wire_format,
            "pipeline": pipeline,
            "url": url or f"/.well-known/codec/dicts/{digest.removeprefix('sha256:')}.zstd",
            "hash": digest,
        }
    ]
    return LatentMapBundle.from_parts(json.dumps(document).encode(), dict(bundle.assets) | {digest: data})


def bundle_with_dictionary() -> LatentMapBundle:
    """Return the map of MODEL with a dictionary for msgpack bodies of int8, whose URL "u" does not exist."""
    return with_dictionary(bundle_of(MODEL), url="u")
