"""Negotiation of the content coding of HTTP responses."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

from aiohttp import web

from codec_http.negotiation import accepted_names, parse_quality_values
from codec_wire.codings import CODINGS, IDENTITY
from codec_wire.compression import Compressor
from codec_wire.errors import NotAcceptable, truncated_repr
from codec_wire.http import CLIENT_VERSION_HEADER, CODEC_MEDIA_TYPES, MAP_PIN_HEADER, ZSTD_DICTIONARY_HEADER
from codec_wire.maps import LatentMapBundle
from core.request_record import current_record

_UNLISTED_IDENTITY_WEIGHT = 1e-6
"""Weight of the content coding `identity` if the header Accept-Encoding does not list `identity`.

The weight is less than 0.001, because 0.001 is the smallest positive weight that a header can contain.
"""


@dataclass(frozen=True, slots=True)
class Encoding:
    """A selected content coding, with the response headers and a function that creates the compressor."""

    headers: dict[str, str]
    compressor: Callable[[], Compressor]

    @property
    def name(self) -> str:
        """Name of the coding in the table CODINGS."""
        return self.headers.get("Content-Encoding", IDENTITY)


def available_codings(bundles: Iterable[LatentMapBundle]) -> list[str]:
    """Return the content codings that are available with the latent-space maps `bundles`, in order of preference."""
    with_dictionaries = any(bundle.latent_map.zstd_dictionaries for bundle in bundles)
    return [name for name, coding in CODINGS.items() if with_dictionaries or not coding.uses_dictionary]


def choose_encoding(request: web.Request, dictionary: tuple[str, bytes] | None) -> Encoding:
    """Return the content coding for the response to `request`.

    The available coding with the highest weight in Accept-Encoding is selected. If several codings have the same
    weight, the first of zstd, br, gzip and identity is selected. `dictionary` contains the hash and the bytes of the
    zstd dictionary for the wire format and the encoding pipeline of the response body. `dictionary` has the value None
    if the latent-space map has no dictionary for the wire format and the encoding pipeline of the response body. The
    coding zstd is available only if `dictionary` is not None and the client is known to have the dictionary. Raises
    NotAcceptable if the client accepts no available coding.
    """
    accepted = ", ".join(request.headers.getall("Accept-Encoding", []))
    if dictionary is not None and not _supports_dictionaries(request, accepted, dictionary[0]):
        dictionary = None
    encoding = _choose(accepted, dictionary)
    current_record().coding = encoding.name
    return encoding


@lru_cache(maxsize=256)
def _choose(accepted: str, dictionary: tuple[str, bytes] | None) -> Encoding:
    """Return the coding for the Accept-Encoding header `accepted`.

    Without `dictionary`, the coding zstd is not available.
    """
    weights = dict(reversed(parse_quality_values(accepted)))  # if a name is repeated, its highest weight counts
    wildcard = weights.get("*")
    choices: list[tuple[float, Encoding]] = []
    for name, coding in CODINGS.items():
        if name == IDENTITY:
            # If identity is not listed, it has the weight of "*". Without "*", it is acceptable with the lowest weight.
            weight = weights.get(name, _UNLISTED_IDENTITY_WEIGHT if wildcard is None else wildcard)
            choices.append((weight, Encoding({}, coding.compressor_class)))
        elif not coding.uses_dictionary:
            headers = {"Content-Encoding": name}
            choices.append((weights.get(name, wildcard or 0), Encoding(headers, coding.compressor_class)))
        elif dictionary is not None:
            digest, data = dictionary
            headers = {"Content-Encoding": name, ZSTD_DICTIONARY_HEADER: digest}
            choices.append((weights.get(name, 0), Encoding(headers, partial(coding.compressor_class, data))))
    weight, encoding = max(choices, key=lambda choice: choice[0])
    if weight <= 0:
        offered = ", ".join(choice.headers.get("Content-Encoding", IDENTITY) for _, choice in choices)
        raise NotAcceptable(f"Accept-Encoding must allow one of {offered}, got {truncated_repr(accepted)}")
    return encoding


def _supports_dictionaries(request: web.Request, accepted: str, digest: str) -> bool:
    """Return whether the client can decode zstd with the dictionary whose hash is `digest`.

    The header Accept-Encoding is not sufficient evidence, because browsers and general-purpose clients list zstd
    without having the dictionary.
    """
    headers = request.headers
    if "Sec-Fetch-Mode" in headers:
        return False
    return (
        not CODEC_MEDIA_TYPES.isdisjoint(accepted_names(headers.get("Accept", "")))
        or MAP_PIN_HEADER in headers
        or CLIENT_VERSION_HEADER in headers
        or headers.get(ZSTD_DICTIONARY_HEADER) == digest
        or accepted_names(accepted) == {"zstd"}
    )
