"""Validation of input videos from the boxes of the MP4 files (ISO/IEC 14496-12), without decoding the frames."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from codec_wire.errors import InvalidRequest
from core.input_image import MAX_IMAGE_PIXELS

MAX_VIDEO_BYTES = 16 * 1024 * 1024
"""Maximum size of a video file in bytes."""
_CONTAINERS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))
_MAX_BOXES = 10_000


@dataclass(frozen=True, slots=True)
class InputVideo:
    """An MP4 file from a request, checked against the limits but not decoded.

    `width` and `height` are in pixels, after the rotation that is stored in the file.
    """

    data: bytes
    width: int
    height: int
    num_frames: int
    fps: int

    def __repr__(self) -> str:
        return f"InputVideo({self.width}x{self.height}, {self.num_frames} frames, {len(self.data)} bytes)"


def is_mp4(data: bytes) -> bool:
    """Return whether `data` begins with a box of type ftyp, as MP4 files do."""
    return data[4:8] == b"ftyp"


def read_input_video(field: str, data: bytes) -> InputVideo:
    """Return the video in `data`, which is the value of the request field `field`.

    Raises InvalidRequest if the file has too many bytes or pixels per frame, contains no video track, or is broken.
    """
    if len(data) > MAX_VIDEO_BYTES:
        raise InvalidRequest(field, f"must have at most {MAX_VIDEO_BYTES} bytes, got {len(data)}")
    try:
        for track in _tracks(memoryview(data)):
            if track.get(b"hdlr", b"")[8:12] == b"vide":
                return _video(field, data, track)
    except (struct.error, KeyError, ZeroDivisionError):
        raise InvalidRequest(field, "is a broken mp4 file: its boxes contain no valid size and duration") from None
    raise InvalidRequest(field, "is an mp4 file without a video track")


def _video(field: str, data: bytes, track: dict[bytes, memoryview]) -> InputVideo:
    # SampleDescriptionBox: 8 bytes, then a VisualSampleEntry with its width and height at 32 (12.1.3).
    width, height = struct.unpack_from(">HH", track[b"stsd"], 40)
    # TimeToSampleBox: pairs (number of frames, duration of each) in units of the track's timescale (8.6.1.2).
    (count,) = struct.unpack_from(">I", track[b"stts"], 4)
    if count > len(track[b"stts"]) // 8:
        raise KeyError("stts")
    entries = [struct.unpack_from(">II", track[b"stts"], 8 + 8 * index) for index in range(count)]
    timescale = struct.unpack_from(">I", track[b"mdhd"], 20 if track[b"mdhd"][0] == 1 else 12)[0]
    num_frames = sum(frames for frames, _ in entries)
    duration = sum(frames * each for frames, each in entries)
    if not width or not height or not num_frames:
        raise KeyError("stsd")
    # TrackHeaderBox: the first number of its matrix is 0 if the frames are shown rotated by 90 degrees (8.3.2).
    if struct.unpack_from(">i", track[b"tkhd"], 52 if track[b"tkhd"][0] == 1 else 40)[0] == 0:
        width, height = height, width
    if width * height > MAX_IMAGE_PIXELS:
        raise InvalidRequest(field, f"must have at most {MAX_IMAGE_PIXELS} pixels per frame, got {width}x{height}")
    return InputVideo(data, width, height, num_frames, max(1, round(num_frames * timescale / duration)))


def _tracks(data: memoryview) -> Iterator[dict[bytes, memoryview]]:
    """Yield one dictionary for each track of the MP4 file `data`.

    The dictionary maps each type of box to the first box of this type.

    The dictionary contains the content of each box without the box header.
    """
    for name, body in _boxes(data, frozenset((b"moov",))):
        if name == b"trak":
            track: dict[bytes, memoryview] = {}
            for inner, content in _boxes(body, _CONTAINERS):
                track.setdefault(inner, content)
            yield track


def _boxes(data: memoryview, containers: frozenset[bytes]) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (type, content) of the boxes in `data`.

    If the type of a box is in `containers`, the boxes inside this box are yielded instead of this box.
    """
    pending, found = [data], 0
    while pending:
        rest = pending.pop()
        while len(rest) >= 8 and found < _MAX_BOXES:
            found += 1
            (size,) = struct.unpack_from(">I", rest)
            start = 8
            if size == 1:
                (size,), start = struct.unpack_from(">Q", rest, 8), 16
            elif size == 0:
                size = len(rest)
            if size < start or size > len(rest):
                break
            name, body = bytes(rest[4:8]), rest[start:size]
            if name in containers:
                pending.append(body)
            else:
                yield name, body
            rest = rest[size:]
