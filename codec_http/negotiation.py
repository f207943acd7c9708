"""Negotiation of the wire format of a latent stream, and of the media type of the response."""

from functools import lru_cache

from codec_wire import WireFormat
from codec_wire.http import MEDIA_TYPES, default_media_type

MAX_ENTRIES = 64
"""Maximum number of entries that are read from an Accept or Accept-Encoding header."""


def negotiate(stream_format: WireFormat | None, accept: str) -> tuple[WireFormat, str]:
    """Return the wire format and the Content-Type of the response. The Content-Type depends only on the wire format.

    The field `stream_format` of the request body takes precedence over the Accept header. If neither `stream_format`
    nor the Accept header names a format, the format is msgpack.
    """
    if stream_format is None:
        stream_format = next(iter(accepted_formats(accept)), WireFormat.MSGPACK)
    return stream_format, default_media_type(stream_format)


# The results are cached, because most clients send the same headers with every request.
@lru_cache(maxsize=256)
def accepted_formats(accept: str) -> tuple[WireFormat, ...]:
    """Return the wire formats whose media types the Accept header names, in order of preference."""
    names = (name for name, weight in parse_quality_values(accept) if weight > 0)
    return tuple(MEDIA_TYPES[name] for name in names if name in MEDIA_TYPES)


@lru_cache(maxsize=256)
def accepted_names(header: str) -> frozenset[str]:
    """Return the names whose weight in `header` is not 0. See parse_quality_values."""
    return frozenset(name for name, weight in parse_quality_values(header) if weight > 0)


@lru_cache(maxsize=256)
def parse_quality_values(header: str) -> tuple[tuple[str, float], ...]:
    """Parse a header such as Accept or Accept-Encoding (RFC 9110, section 12.4.2).

    Return (name, weight) pairs, sorted by descending weight and then by position. The names are in lower case. The
    weights are between 0 and 1. Parameters other than the weight `q` are ignored. An invalid weight counts as 0. Only
    the first MAX_ENTRIES entries of the header are read.
    """
    found = []
    for part in header.split(",", MAX_ENTRIES)[:MAX_ENTRIES]:
        name, *parameters = (piece.strip() for piece in part.split(";", MAX_ENTRIES))
        if not name:
            continue
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                weight = _weight(value.strip())
        found.append((name.lower(), weight))
    return tuple(sorted(found, key=lambda entry: -entry[1]))


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
