"""Which content coding a client gets. WIRE, section 3, decides."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from codec_http.negotiation import parse_quality_values
from codec_wire.compression import Brotli, Compressor, Gzip, Identity, Zstd
from codec_wire.errors import NotAcceptable, truncated_repr
from codec_wire.http import CLIENT_VERSION_HEADER, CODEC_MEDIA_TYPES, MAP_PIN_HEADER, ZSTD_DICTIONARY_HEADER
from codec_wire.maps import LatentMapBundle


@dataclass(frozen=True, slots=True)
class Encoding:
    """A chosen coding: the headers that announce it and what makes it."""

    headers: dict[str, str]
    compressor: Callable[[], Compressor]


def codings_of(bundles: Iterable[LatentMapBundle]) -> list[str]:
    """Return the names of the codings that answers with these maps may have, the preferred first."""
    with_dictionaries = any(bundle.latent_map.zstd_dictionaries for bundle in bundles)
    return [*(["zstd"] if with_dictionaries else []), "br", "gzip", "identity"]


def choose_encoding(request: web.Request, dictionary: tuple[str, bytes] | None) -> Encoding:
    """Return the coding for the answer to `request`: the one it weighs highest, of equals zstd > br > gzip > identity.

    `dictionary` is (hash, bytes) of the one for this body's format and pipeline, None where there is none: without it
    there is no zstd. Raises NotAcceptable when the client takes none of what is left.
    """
    listed = parse_quality_values(", ".join(request.headers.getall("Accept-Encoding", [])))
    weights = dict(reversed(listed))  # of a name that is repeated, the highest counts
    anything = weights.get("*")
    choices: list[tuple[float, Encoding]] = []
    if dictionary is not None and _holds_dictionary(request, weights, dictionary[0]):
        digest, data = dictionary
        headers = {"Content-Encoding": "zstd", ZSTD_DICTIONARY_HEADER: digest}
        choices.append((weights.get("zstd", 0), Encoding(headers, lambda: Zstd(data))))
    for name, compressor in (("br", Brotli), ("gzip", Gzip)):
        choices.append((weights.get(name, anything or 0), Encoding({"Content-Encoding": name}, compressor)))
    # Identity need not be listed: then it comes last, unless a "*" rules it out.
    choices.append((weights.get("identity", UNLISTED if anything is None else anything), Encoding({}, Identity)))
    weight, encoding = max(choices, key=lambda choice: choice[0])
    if weight <= 0:
        offered = ", ".join(choice.headers.get("Content-Encoding", "identity") for _, choice in choices)
        raise NotAcceptable(
            f"Accept-Encoding takes none of {offered}: got {truncated_repr(request.headers.get('Accept-Encoding', ''))}"
        )
    return encoding


UNLISTED = 1e-6
"""Weight of identity where it is not listed: under every weight that can be (three decimals)."""


def _holds_dictionary(request: web.Request, weights: dict[str, float], digest: str) -> bool:
    """Return whether the client shows that it speaks Codec, and so can get the dictionary.

    Browsers and general-purpose clients announce zstd too, hold no dictionary, and would fail.
    """
    headers = request.headers
    if "Sec-Fetch-Mode" in headers:
        return False
    media_types = {name for name, weight in parse_quality_values(headers.get("Accept", "")) if weight > 0}
    return (
        bool(media_types & CODEC_MEDIA_TYPES)
        or MAP_PIN_HEADER in headers
        or CLIENT_VERSION_HEADER in headers
        or headers.get(ZSTD_DICTIONARY_HEADER) == digest
        or [name for name, weight in weights.items() if weight > 0] == ["zstd"]
    )
