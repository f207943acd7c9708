"""Stream bodies of corpus samples, and the sizes of the bodies in each content coding."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from codec_maps.corpus import Sample
from codec_maps.entropy import entropy_bound
from codec_wire import WireFormat, encode
from codec_wire.codings import CODINGS
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.maps import LatentMapBundle
from core.model import ModelInfo
from core.plan import plan


@dataclass(frozen=True, slots=True)
class Body:
    """The body of one stream. `messages` contains the encoded bytes of the header and of each frame."""

    header: LatentStreamHeader
    frames: Sequence[LatentFrame]
    messages: Sequence[bytes]

    @property
    def identity(self) -> bytes:
        """The whole body without a content coding."""
        return b"".join(self.messages)


def encode_body(
    sample: Sample, pipeline: str, wire_format: WireFormat, bundle: LatentMapBundle, model: ModelInfo
) -> Body:
    """Return the body that the server would send if the model generated the latents of `sample`.

    Raises InvalidRequest if `bundle` does not list `pipeline` for the sample's modality.
    """
    stream = plan(sample.request.model_copy(update={"pipeline": pipeline}), bundle, model)
    encoder = LatentEncoder(stream.header)
    last = len(sample.latents) - 1
    frames = [
        encoder.encode(latent, keyframe=stream.is_keyframe(seq), last=seq == last)
        for seq, latent in enumerate(sample.latents)
    ]
    messages = [encode(stream.header, wire_format), *(encode(frame, wire_format) for frame in frames)]
    return Body(stream.header, frames, messages)


def pipelines_for(sample: Sample, bundle: LatentMapBundle) -> list[str]:
    """Return the names of the map's pipelines that can encode the sample's modality."""
    return [entry.name for entry in bundle.latent_map.pipelines_for(sample.request.modality)]


@dataclass(frozen=True, slots=True)
class BodySizes:
    """Sizes in bytes of one body in each content coding, or mean sizes of several bodies.

    `zstd` is the size with zstd and without a dictionary. `zstd_dictionary` is only set for a map with dictionaries.
    """

    identity: float
    gzip: float
    br: float
    zstd: float
    zstd_dictionary: float | None
    entropy_bound: float

    @property
    def saving(self) -> float | None:
        """Fraction of bytes that the dictionary saves, relative to the smallest body without the dictionary.

        A saving of 0.05 means 5 %. The saving is negative if the dictionary makes the body larger, and None if there is
        no dictionary. The comparison does not include Brotli, because a client that prefers Brotli gives Brotli a
        higher weight in Accept-Encoding. Without the dictionary, a client that accepts only zstd would receive an
        uncompressed body.
        """
        if self.zstd_dictionary is None:
            return None
        return 1 - self.zstd_dictionary / min(self.identity, self.gzip, self.zstd)

    def rounded(self) -> dict[str, int]:
        """Return a dictionary of the sizes by name, rounded to whole bytes. Sizes that are None are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: round(value) for name, value in values.items() if value is not None}


def measure_sizes(body: Body, dictionary: bytes | None = None) -> BodySizes:
    """Return the size of `body` in each content coding.

    The compressor is flushed after every message, as in the server.
    """
    return BodySizes(
        identity=_size(body, "identity"),
        gzip=_size(body, "gzip"),
        br=_size(body, "br"),
        zstd=_size(body, "zstd"),
        zstd_dictionary=None if dictionary is None else _size(body, "zstd", dictionary),
        entropy_bound=entropy_bound(body.header, body.frames),
    )


def mean_sizes(sizes: Sequence[BodySizes]) -> BodySizes:
    """Return the mean of `sizes` for each content coding. `sizes` must not be empty.

    `zstd_dictionary` must be set either in all elements of `sizes` or in none of the elements.
    """
    with_dictionary = [size.zstd_dictionary for size in sizes if size.zstd_dictionary is not None]
    return BodySizes(
        identity=fmean(size.identity for size in sizes),
        gzip=fmean(size.gzip for size in sizes),
        br=fmean(size.br for size in sizes),
        zstd=fmean(size.zstd for size in sizes),
        zstd_dictionary=fmean(with_dictionary) if with_dictionary else None,
        entropy_bound=fmean(size.entropy_bound for size in sizes),
    )


def _size(body: Body, coding: str, dictionary: bytes | None = None) -> int:
    compressor = CODINGS[coding].compressor(dictionary)
    return sum(len(compressor.compress(message)) for message in body.messages) + len(compressor.finish())
