"""Test data that schemathesis cannot derive from /openapi.json: binary bodies, and names that the server knows.

bench.fuzz_openapi passes this module to schemathesis. Some of the bodies are valid, most are damaged.
"""

import random
from typing import Any

import schemathesis

from bench.fuzz import mutated
from bench.request_corpus import images
from codec_http.latent_routes import LATENT_ROUTES
from codec_wire import WireFormat
from codec_wire.http import MEDIA_TYPES
from codec_wire.maps.bundle import sha256
from codec_wire.pipelines import PIPELINES
from tests.support.latent_streams import body_of, random_stream
from tests.support.serving import LATENT_SPACE, SCALES

VALID_SHARE = 0.3
"""Share of the binary bodies that are not damaged, and of the names that the server knows."""
EXISTING = {
    "name": "tests.support.tiny_sd:build_pipeline",
    "id": LATENT_SPACE,
    "hex": sha256(SCALES).removeprefix("sha256:"),
}
"""Path parameters that the server of bench.fuzz_service knows."""
_FILES = {name for route in LATENT_ROUTES for name in route.files}
_STREAMS = {
    wire_format: [body_of(random_stream(name, 2, shape=(4, 1, 2)), wire_format) for name in PIPELINES]
    for wire_format in WireFormat
}
_OTHERS = [*images(), bytes(4 * 8 * 8 * 2), bytes(3 * 16 * 16 * 4)]
"""Images, and tensors of zeros: latents in 16 bits and pixels in 32 bits."""
_rng = random.Random(0)


def _serialize(context: Any, _value: object) -> bytes:
    media_type = context.case.media_type or ""
    corpus = _STREAMS[MEDIA_TYPES[media_type]] if media_type in MEDIA_TYPES else _OTHERS
    return _rng.choice(corpus) if _rng.random() < VALID_SHARE else mutated(_rng, corpus)


def map_path_parameters(_context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Replace the names in some paths by names that the server knows."""
    if not path_parameters or _rng.random() > VALID_SHARE:
        return path_parameters
    return {name: EXISTING.get(name, value) for name, value in path_parameters.items()}


schemathesis.serializer(*sorted(_FILES))(_serialize)
schemathesis.hook(map_path_parameters)
