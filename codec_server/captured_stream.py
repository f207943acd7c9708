"""Reading and checking of a complete captured latent stream."""

from collections.abc import Sequence
from dataclasses import dataclass

from codec_client import LatentStreamDecoder
from codec_server.captures import MapSources, read_capture, zstd_dictionaries
from codec_wire.decoder import DecodedLatent
from codec_wire.dictionary_selection import find_dictionary
from codec_wire.errors import MalformedMessage
from codec_wire.format_detection import detect_coding, identify_foreign_file
from codec_wire.latents import LatentStreamHeader
from codec_wire.maps import LatentMapBundle


@dataclass(frozen=True, slots=True)
class CapturedStream:
    """A valid captured stream, with the captured body, the body's content coding `encoding`, and the decoded contents.

    `bundles` are the latent-space maps that the option --bundle or --server selects, or an empty list if neither option
    was given.
    """

    body: bytes
    encoding: str
    header: LatentStreamHeader
    latents: Sequence[DecodedLatent]
    bundles: list[LatentMapBundle]


def read_stream(capture: str, encoding: str | None, sources: MapSources) -> CapturedStream:
    """Read the file `capture`, or standard input if `capture` is "-".

    Without `encoding`, the content coding is detected. Raises InvalidSettings if the file cannot be read, and
    StreamError if the file is not a valid stream. Raises InvalidMap if a latent-space map is missing or not valid.
    """
    head, chunks = read_capture(capture)
    other_format = identify_foreign_file(head)
    if other_format is not None and encoding is None:
        raise MalformedMessage(f"{capture} is {other_format}", 0)
    coding = encoding or detect_coding(head)
    bundles = sources.selected()
    dictionary = find_dictionary(head, zstd_dictionaries(bundles, sources.models_dir)) if coding == "zstd" else None
    decoder = LatentStreamDecoder(encoding=coding, dictionary=dictionary)
    received: list[bytes] = []
    latents: list[DecodedLatent] = []
    for chunk in chunks:
        received.append(chunk)
        latents += decoder.feed(chunk)
    decoder.close()
    assert decoder.header is not None  # noqa: S101 - close() raises for a stream without a header
    return CapturedStream(b"".join(received), coding, decoder.header, latents, bundles)
