"""Inspection of a captured latent stream, with a report on the header, the frames and the first error."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from codec_wire import WireFormat
from codec_wire.decoder import DecodedLatent, LatentDecoder
from codec_wire.dictionary_selection import find_dictionary
from codec_wire.errors import StreamError
from codec_wire.format_detection import detect_coding, identify_foreign_file
from codec_wire.latents import LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.message_decoder import MAX_BYTES, MessageDecoder
from codec_wire.pipelines import Scales

MAX_FRAME_REPORTS = 1000
"""Maximum number of frames with a FrameReport.

Frames above this maximum have no FrameReport, but are included in the totals.
"""
HEAD_BYTES = 64
"""Number of leading bytes that format detection needs."""
SLICE_BYTES = 64
"""Number of compressed bytes that are decompressed at a time."""


@dataclass(frozen=True, slots=True)
class FrameReport:
    """Report on one frame, with the byte offset, sizes in bytes, and statistics of the latents and scales."""

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
    """Contents of a captured stream up to its first error.

    `problem` describes the error, and `problem_offset` is the byte offset of the error in the decompressed stream. Both
    `problem` and `problem_offset` are None if the stream is valid. All sizes are in bytes.
    """

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
        """Number of bytes of the decompressed stream that are neither the header message nor frame data."""
        return max(0, self.expanded_bytes - self.header_bytes - self.data_bytes) if self.frame_count else 0


def inspect(
    chunks: Iterable[bytes],
    *,
    encoding: str | None = None,
    wire_format: WireFormat | None = None,
    dictionaries: Mapping[str, bytes] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Inspection:
    """Return a report on a captured stream. If the stream is invalid, the report contains the error.

    Args:
        chunks: The whole capture, in chunks of any size.
        encoding: The content coding of the capture. Default: the content coding is detected from the first bytes of the
            capture. The content coding `br` cannot be detected.
        wire_format: The wire format of the capture. Default: the wire format is detected from the first byte of the
            decompressed stream.
        dictionaries: zstd dictionaries as the values of a Python dictionary. The keys of this Python dictionary are
            ignored. The zstd frame in the capture contains the id of the zstd dictionary that is used.
        max_bytes: Maximum size of the decompressed stream in bytes.

    """
    report = Inspection()
    head, chunks = _peek(chunks)
    other_format = identify_foreign_file(head)
    report.encoding = encoding or detect_coding(head)
    if other_format is not None and encoding is None:
        _record_problem(report, StreamError(f"the input is {other_format}", 0), 0)
        report.received_bytes = sum(map(len, chunks))
        return report
    try:
        dictionary = find_dictionary(head, dictionaries or {}) if report.encoding == "zstd" else None
        messages = MessageDecoder(wire_format, report.encoding, dictionary, max_bytes)
    except StreamError as error:
        _record_problem(report, error, 0)
        return report
    try:
        _read(report, messages, chunks if report.encoding == "identity" else _slices(chunks))
    except StreamError as error:
        _record_problem(report, error, messages.offset)
    report.wire_format = messages.wire_format
    report.received_bytes, report.expanded_bytes = messages.received, messages.expanded
    return report


def _peek(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first HEAD_BYTES bytes of `chunks`, and an iterator over all of `chunks`."""
    iterator = iter(chunks)
    taken: list[bytes] = []
    while sum(map(len, taken)) < HEAD_BYTES and (chunk := next(iterator, None)) is not None:
        taken.append(chunk)
    return b"".join(taken)[:HEAD_BYTES], chain(taken, iterator)


def _slices(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split compressed chunks into small slices, so that all frames before a corrupt slice are decoded."""
    for chunk in chunks:
        yield from (chunk[start : start + SLICE_BYTES] for start in range(0, len(chunk), SLICE_BYTES))


def _read(report: Inspection, messages: MessageDecoder, chunks: Iterator[bytes]) -> None:
    decoder: LatentDecoder | None = None
    for chunk in chunks:
        for message in messages.feed(chunk):
            if isinstance(message, LatentStreamHeader):
                report.header = message
                report.header_bytes = messages.end
                decoder = LatentDecoder(message)
                continue
            # MessageDecoder returns the header first.
            assert decoder is not None and report.header is not None  # noqa: S101, PT018
            latents = decoder.decode(message)
            report.frame_count += 1
            report.data_bytes += len(message.data)
            if len(report.frames) < MAX_FRAME_REPORTS:
                report.frames.append(_frame_report(report.header, message, latents, messages.offset))
    messages.close()
    if decoder is not None:
        decoder.close()


def _frame_report(header: LatentStreamHeader, frame: LatentFrame, latents: DecodedLatent, offset: int) -> FrameReport:
    has_scales = header.pipeline_spec.scales is Scales.PER_KEYFRAME and frame.keyframe
    scales = parse_scales(frame.data[: 2 * header.shape[0]], header.shape[0]) if has_scales else None
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


def _record_problem(report: Inspection, error: StreamError, offset: int) -> None:
    report.problem_kind = error.code
    report.problem_offset = offset if error.offset is None else error.offset
    report.problem = error.message.partition(": ")[2] if error.message.startswith("at byte ") else error.message
