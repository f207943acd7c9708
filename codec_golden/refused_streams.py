"""Streams that a decoder must refuse, each with one fault."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from codec_golden.vector_cases import CASES, Case, case_latents, stream_plan
from codec_wire import WireFormat, encode
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentFrame
from codec_wire.pipelines import PIPELINES

NAN = b"\x00\x7e"
"""The number NaN as little-endian fp16 bytes."""


@dataclass(frozen=True, slots=True)
class RefusedStream:
    """One invalid stream as a msgpack body.

    Do not change the text of a `reason`. The texts of all reasons are part of the file index.json, and the bytes of
    index.json are fixed.
    """

    name: str
    reason: str
    body: bytes

    @property
    def path(self) -> str:
        """Path of the stream in the folder of the vectors."""
        return f"refused/{self.name}.msgpack"

    @property
    def index_entry(self) -> dict[str, str]:
        """Entry of the stream in index.json."""
        return {"msgpack": self.path, "reason": self.reason}


def refused_streams() -> list[RefusedStream]:
    """Return all invalid streams, each with one fault."""
    return list(_refused_streams())


def _refused_streams() -> Iterator[RefusedStream]:
    image, odd, video = (next(case for case in CASES if case.name == name) for name in ("image", "odd", "video"))
    int8, frames = _frames(image, "int8"), _frames(video, "delta+int8")
    last = frames[-1]
    yield _refused("no-done", "the stream ends without a frame that is done", video, "delta+int8", frames[:-1])
    gap = [frames[0], *frames[2:]]
    yield _refused("gap", "seq 1 is missing", video, "delta+int8", gap)
    twice = [frames[0], frames[0], *frames[1:]]
    yield _refused("repeated", "seq 0 comes twice", video, "delta+int8", twice)
    late = [*frames, replace(last, seq=last.seq + 1)]
    yield _refused("after-done", "a frame follows the one that is done", video, "delta+int8", late)
    orphan = [replace(frames[0], keyframe=False), *frames[1:]]
    yield _refused("no-keyframe", "the first frame of a delta stream is a residual", video, "delta+int8", orphan)
    early = [frames[0], replace(frames[1], done=True, finish_reason=last.finish_reason)]
    yield _refused("early", "6 frames are announced, and the second one is done", video, "delta+int8", early)
    short = [replace(int8[0], data=int8[0].data[:-1])]
    yield _refused("short", "the frame holds a byte too few", image, "int8", short)
    code = [replace(int8[0], data=b"\x80" + int8[0].data[1:])]
    yield _refused("code-minus-128", "a code is -128; codes of int8 lie in -127…127", image, "int8", code)
    int4 = _frames(odd, "int4")
    tail = [replace(int4[0], data=int4[0].data[:-1] + bytes([int4[0].data[-1] | 0x10]))]
    yield _refused("tail", "45 codes of 4 bits, and the last byte's high nibble is not 0", odd, "int4", tail)
    adaptive = _frames(image, "int8-adaptive")
    scale = [replace(adaptive[0], data=NAN + adaptive[0].data[2:])]
    yield _refused("scale-nan", "the first channel's scale is NaN", image, "int8-adaptive", scale)
    raw = _frames(image, "raw")
    value = [replace(raw[0], data=NAN + raw[0].data[2:])]
    yield _refused("value-nan", "the first value is NaN", image, "raw", value)


def _frames(case: Case, pipeline: str) -> list[LatentFrame]:
    stream, latents = stream_plan(case, PIPELINES[pipeline]), case_latents(case)
    encoder, last = LatentEncoder(stream.header), case.latent_frames - 1
    return [
        encoder.encode(np.asarray(latents[seq]), keyframe=keyframe, last=seq == last)
        for seq, keyframe in enumerate(stream.keyframes)
    ]


def _refused(name: str, reason: str, case: Case, pipeline: str, frames: list[LatentFrame]) -> RefusedStream:
    header = stream_plan(case, PIPELINES[pipeline]).header
    parts = [encode(header, WireFormat.MSGPACK), *(encode(frame, WireFormat.MSGPACK) for frame in frames)]
    return RefusedStream(name, reason, b"".join(parts))
