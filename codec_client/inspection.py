"""Looks into a capture of a latent stream: what it holds, and what is wrong with it and where."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import zstandard

from codec_wire import WireFormat
from codec_wire.decoder import DecodedLatent, LatentDecoder
from codec_wire.errors import StreamError
from codec_wire.format_detection import detect_coding, identify_foreign_file
from codec_wire.latents import LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.message_decoder import MAX_BYTES, MessageDecoder
from codec_wire.pipelines import Scales

MAX_REPORTS = 1000
"""Frames that are reported one by one; of further ones the totals count."""
HEAD_BYTES = 64
FINE_BYTES = 64
"""How much of a compressed capture is expanded at once."""


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame: where its message begins, its sizes in bytes, and the statistics of its latents and scales."""

    offset: int
    seq: int
    keyframe: bool
    done: bool
    finish_reason: str | None
    data_bytes: int
    scale_bytes: int
    minimum: float
    maximum: float
    mean: float
    deviation: float
    smallest_scale: float | None
    largest_scale: float | None


@dataclass(slots=True)
class Inspection:
    """What a capture holds as far as it is sound; `problem` is what is wrong, at `problem_offset` of the stream."""

    encoding: str = "identity"
    wire_format: WireFormat | None = None
    received_bytes: int = 0
    expanded_bytes: int = 0
    header: LatentStreamHeader | None = None
    header_bytes: int = 0
    frame_count: int = 0
    data_bytes: int = 0
    frames: list[FrameReport] = field(default_factory=list)
    problem: str | None = None
    problem_kind: str | None = None
    problem_offset: int | None = None

    @property
    def envelope_bytes(self) -> int:
        """Bytes of the expanded stream that are neither the header's message nor frames' data."""
        return max(0, self.expanded_bytes - self.header_bytes - self.data_bytes) if self.frame_count else 0


def inspect(
    chunks: Iterable[bytes],
    *,
    encoding: str | None = None,
    wire_format: WireFormat | None = None,
    dictionaries: Mapping[str, bytes] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Inspection:
    """Return what `chunks`, a whole capture in pieces, hold. Never raises for what they hold.

    `encoding` and `wire_format` are told from the first bytes where they are None; br has no mark and must be named.
    Of `dictionaries`, by any name, the one is taken that a zstd body says it was made with.
    """
    report = Inspection()
    head, chunks = _with_head(chunks)
    what = identify_foreign_file(head)
    report.encoding = encoding or detect_coding(head)
    if what is not None and encoding is None:
        _note(report, StreamError(f"this is {what}", 0), 0)
        report.received_bytes = sum(map(len, chunks))
        return report
    try:
        dictionary = dictionary_for(head, dictionaries or {}) if report.encoding == "zstd" else None
        messages = MessageDecoder(wire_format, report.encoding, dictionary, max_bytes)
    except StreamError as error:
        _note(report, error, 0)
        return report
    try:
        _read(report, messages, chunks if report.encoding == "identity" else _fine(chunks))
    except StreamError as error:
        _note(report, error, messages.offset)
    report.wire_format = messages.wire_format
    report.received_bytes, report.expanded_bytes = messages.received, messages.expanded
    return report


def dictionary_for(head: bytes, dictionaries: Mapping[str, bytes]) -> bytes | None:
    """Return the dictionary that a zstd body beginning with `head` names by number; None where it names none.

    Raises StreamError where it is not among `dictionaries`.
    """
    try:
        wanted = zstandard.get_frame_parameters(head).dict_id
    except zstandard.ZstdError:
        return None  # the decompressor says what is wrong
    if not wanted:
        return None
    for data in dictionaries.values():
        if zstandard.ZstdCompressionDict(data).dict_id() == wanted:
            return data
    raise StreamError(f"the zstd body needs the dictionary {wanted}, which is in no latent-space map at hand", 0)


def _with_head(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of `chunks`, and `chunks` whole."""
    iterator = iter(chunks)
    taken: list[bytes] = []
    while sum(map(len, taken)) < HEAD_BYTES and (chunk := next(iterator, None)) is not None:
        taken.append(chunk)
    return b"".join(taken)[:HEAD_BYTES], chain(taken, iterator)


def _fine(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut compressed chunks small: all that comes before a broken piece is seen, and where it is."""
    for chunk in chunks:
        yield from (chunk[start : start + FINE_BYTES] for start in range(0, len(chunk), FINE_BYTES))


def _read(report: Inspection, messages: MessageDecoder, chunks: Iterator[bytes]) -> None:
    decoder: LatentDecoder | None = None
    for chunk in chunks:
        for message in messages.feed(chunk):
            if isinstance(message, LatentStreamHeader):
                report.header = message
                report.header_bytes = messages.end
                decoder = LatentDecoder(message)
                continue
            assert decoder is not None and report.header is not None  # noqa: S101, PT018 - the header came first
            latents = decoder.decode(message)
            report.frame_count += 1
            report.data_bytes += len(message.data)
            if len(report.frames) < MAX_REPORTS:
                report.frames.append(_frame_report(report.header, message, latents, messages.offset))
    messages.close()
    if decoder is not None:
        decoder.close()


def _frame_report(header: LatentStreamHeader, frame: LatentFrame, latents: DecodedLatent, offset: int) -> FrameReport:
    own = header.row.scales is Scales.PER_KEYFRAME and frame.keyframe
    scales = parse_scales(frame.data[: 2 * header.shape[0]], header.shape[0]) if own else None
    values = latents.astype(np.float64)
    return FrameReport(
        offset=offset,
        seq=frame.seq,
        keyframe=frame.keyframe,
        done=frame.done,
        finish_reason=None if frame.finish_reason is None else str(frame.finish_reason),
        data_bytes=len(frame.data),
        scale_bytes=0 if scales is None else scales.nbytes,
        minimum=float(values.min()),
        maximum=float(values.max()),
        mean=float(values.mean()),
        deviation=float(values.std()),
        smallest_scale=None if scales is None else float(scales.min()),
        largest_scale=None if scales is None else float(scales.max()),
    )


def _note(report: Inspection, error: StreamError, offset: int) -> None:
    report.problem_kind = error.code
    report.problem_offset = offset if error.offset is None else error.offset
    report.problem = error.message.partition(": ")[2] if error.message.startswith("at byte ") else error.message
