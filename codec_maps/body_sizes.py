"""How large bodies are in each content coding, made by the compressors that the server streams with."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from codec_maps.bodies import Body
from codec_maps.entropy import entropy_bound
from codec_wire.codings import CODINGS
from codec_wire.compression import Compressor


@dataclass(frozen=True, slots=True)
class BodySizes:
    """Bytes of one body, or their mean; `zstd_dictionary` is None where there is no dictionary."""

    identity: float
    gzip: float
    br: float
    zstd: float
    zstd_dictionary: float | None
    entropy_bound: float

    @property
    def saving(self) -> float | None:
        """What the dictionary saves of the least of identity, gzip and zstd without one. Less than 0 where it loses.

        A share: 0.05 for 5 %. Not of br: a client that takes zstd alone would get identity without a dictionary, and
        one that would rather have br says so in its weights.
        """
        if self.zstd_dictionary is None:
            return None
        return 1 - self.zstd_dictionary / min(self.identity, self.gzip, self.zstd)

    def rounded(self) -> dict[str, int]:
        """Return whole bytes by name; None is left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: round(value) for name, value in values.items() if value is not None}


def measure(body: Body, dictionary: bytes | None = None) -> BodySizes:
    """Return the size of `body` in each coding, flushed after every message."""
    return BodySizes(
        identity=_size(body, CODINGS["identity"].compressor()),
        gzip=_size(body, CODINGS["gzip"].compressor()),
        br=_size(body, CODINGS["br"].compressor()),
        zstd=_size(body, CODINGS["zstd"].compressor()),
        zstd_dictionary=None if dictionary is None else _size(body, CODINGS["zstd"].compressor(dictionary)),
        entropy_bound=entropy_bound(body.header, body.frames),
    )


def mean_of(sizes: Sequence[BodySizes]) -> BodySizes:
    """Return the mean of `sizes`, of which there is one at least; all with a dictionary, or all without."""
    with_dictionary = [size.zstd_dictionary for size in sizes if size.zstd_dictionary is not None]
    return BodySizes(
        identity=fmean(size.identity for size in sizes),
        gzip=fmean(size.gzip for size in sizes),
        br=fmean(size.br for size in sizes),
        zstd=fmean(size.zstd for size in sizes),
        zstd_dictionary=fmean(with_dictionary) if with_dictionary else None,
        entropy_bound=fmean(size.entropy_bound for size in sizes),
    )


def _size(body: Body, compressor: Compressor) -> int:
    return sum(len(compressor.compress(message)) for message in body.messages) + len(compressor.finish())
