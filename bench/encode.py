"""Speed of encoding and decoding per pipeline, as a ratio to a named peer in the same run.

Encoding is compared with codecai's LatentStreamEncoder, including the envelope. This project checks for NaN and Inf,
codecai does not. Therefore a second row for `raw` compares it with codecai followed by np.isfinite, which gives the
same guarantee.

codecai does not have a decoder for latents, so decoding is compared with the published inverse formula. It is
implemented below in NumPy, channel by channel, and checks nothing except np.isfinite for `raw`. Both decoders start
from the bytes of a frame.

Everything is measured with NumPy, and, if the extra `kernel` is installed, with compiled loops.

    python -m bench.encode              print the tables
    python -m bench.encode --markdown   print the tables of docs/benchmarks.md
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from codecai.server.latent_frame import LatentStreamEncoder
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from bench.comparison import Comparison, compare, print_comparisons
from codec_wire import WireFormat, encode
from codec_wire.decoder import LatentDecoder
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentDtype, LatentStreamHeader
from codec_wire.pipelines import PIPELINES, Scales
from codec_wire.pipelines.host import use_compiled_math

SHAPES = {"256x256": (4, 32, 32), "512x512": (4, 64, 64), "1024x1024": (4, 128, 128), "video 832x480": (16, 60, 104)}
"""Shape of a latent frame, by the size of the decoded frame in pixels."""
FRAMES = 8
"""Latent frames in a stream: one keyframe and seven residuals for delta pipelines."""
DECODING_GOAL = 2.0


def encoding_goal(pipeline: str) -> float:
    """Return the smallest ratio to codecai that is intended for `pipeline`."""
    spec = PIPELINES[pipeline]
    if spec.bits is None:
        return 1.0
    return 3.0 if spec.delta else 4.0


def header_for(pipeline: str, shape: tuple[int, ...]) -> LatentStreamHeader:
    """Return the header of a benchmark stream. Static scales are 4 for every channel."""
    static = PIPELINES[pipeline].scales is Scales.STATIC
    scales = np.full(shape[0], 4, "<f2").tobytes() if static else None
    return LatentStreamHeader("bench/latents", shape, LatentDtype.FP16, pipeline, scales, fps=24, total_frames=FRAMES)


def our_encoding(header: LatentStreamHeader, latents: list[NDArray[Any]]) -> list[bytes]:
    """Encode the stream's frames to msgpack with this project."""
    encoder = LatentEncoder(header)
    return [
        encode(
            encoder.encode(latent, keyframe=seq == 0 or not header.pipeline_spec.delta, last=seq == FRAMES - 1),
            WireFormat.MSGPACK,
        )
        for seq, latent in enumerate(latents)
    ]


def peer_encoding(header: LatentStreamHeader, latents: list[NDArray[Any]]) -> list[bytes]:
    """Encode the stream's frames to msgpack with codecai."""
    encoder = LatentStreamEncoder(
        header.latent_space_id,
        header.shape,
        str(header.dtype),
        header.pipeline,
        static_scales=None if header.scales is None else np.frombuffer(header.scales, "<f2"),
        fps=header.fps,
        total_frames=header.total_frames,
    )
    last = FRAMES - 1
    return [
        encoder.frame(
            latent,
            seq=seq,
            keyframe=seq == 0 or not header.pipeline_spec.delta,
            done=seq == last,
            finish_reason="ok" if seq == last else None,
        )
        for seq, latent in enumerate(latents)
    ]


def formula_decoding(header: LatentStreamHeader, frames: list[bytes]) -> list[NDArray[Any]]:
    """Decode the data of the stream's frames with the published formula, channel by channel, without checks."""
    row, channels = header.pipeline_spec, header.shape[0]
    size = int(np.prod(header.shape))
    scales = None if header.scales is None else np.frombuffer(header.scales, "<f2")
    key = np.zeros(size, np.int16)
    decoded = []
    for seq, data in enumerate(frames):
        if row.bits is None:
            values = np.frombuffer(data, "<f2").reshape(header.shape)
            if not np.isfinite(values).all():
                raise ValueError("not finite")
            decoded.append(values)
            continue
        payload = data
        if row.scales is Scales.PER_KEYFRAME and (seq == 0 or not row.delta):
            scales, payload = np.frombuffer(data[: 2 * channels], "<f2"), data[2 * channels :]
        if row.bits == 8:
            codes = np.frombuffer(payload, np.int8).astype(np.int16)
        else:
            packed = np.frombuffer(payload, np.uint8)
            nibbles = np.stack([packed & 0x0F, packed >> 4], axis=1).reshape(-1)[:size].astype(np.int16)
            codes = np.where(nibbles > 7, nibbles - 16, nibbles)
        if row.delta and seq == 0:
            key = codes
        elif row.delta:
            codes = np.clip(key + codes, -row.max_code, row.max_code)
        per_channel = codes.reshape(channels, -1)
        out = np.empty(per_channel.shape, np.float32)
        for channel in range(channels):
            scale = np.float32(scales[channel]) if scales is not None else np.float32(0)
            out[channel] = per_channel[channel].astype(np.float32) * scale / np.float32(row.max_code)
        decoded.append(out.reshape(header.shape))
    return decoded


def measure(pipeline: str, size: str) -> Iterator[Comparison]:
    """Yield comparisons of encoding and decoding for one pipeline and size, after checking that results are equal."""
    shape = SHAPES[size]
    rng = np.random.default_rng(0)
    latents = [rng.standard_normal(shape).astype(np.float16) for _ in range(FRAMES)]
    header = header_for(pipeline, shape)
    if our_encoding(header, latents) != peer_encoding(header, latents):
        raise AssertionError(f"{pipeline} {shape}: this project and codecai encode different bytes")

    def encode_all() -> list[bytes]:
        return our_encoding(header, latents)

    def peer_encode_all() -> list[bytes]:
        return peer_encoding(header, latents)

    def checked_peer() -> list[bytes]:
        if not all(np.isfinite(latent).all() for latent in latents):
            raise ValueError("not finite")
        return peer_encoding(header, latents)

    cells, goal = ("encode", pipeline, size), encoding_goal(pipeline)
    yield compare((*cells, "codecai"), encode_all, peer_encode_all, FRAMES, goal)
    if header.pipeline_spec.bits is None:
        yield compare((*cells, "codecai + isfinite"), encode_all, checked_peer, FRAMES, goal)
    encoder = LatentEncoder(header)
    frames = [
        encoder.encode(latent, keyframe=seq == 0 or not header.pipeline_spec.delta, last=seq == FRAMES - 1)
        for seq, latent in enumerate(latents)
    ]
    data = [frame.data for frame in frames]

    def decode_all() -> list[Any]:
        decoder = LatentDecoder(header)
        return [decoder.decode(frame) for frame in frames]

    def formula_decode_all() -> list[Any]:
        return formula_decoding(header, data)

    for one, other in zip(decode_all(), formula_decode_all(), strict=True):
        np.testing.assert_array_equal(one, other)
    yield compare(("decode", pipeline, size, "formula"), decode_all, formula_decode_all, FRAMES, DECODING_GOAL)


def main() -> int:
    """Run the command line. Return exit status 1 if a measurement is slower than its peer."""
    parser = argparse.ArgumentParser(description="Encode and decode speed as a ratio to a named peer.")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    cases = [(pipeline, size) for pipeline in PIPELINES for size in SHAPES]
    found_slower = print_table("NumPy", cases, markdown=options.markdown)
    if use_compiled_math():
        found_slower |= print_table("compiled loops", cases, markdown=options.markdown)
    else:
        print("\nCompiled loops were not measured, because the extra `kernel` is not installed.")
    return int(found_slower)


def print_table(arithmetic: str, cases: list[tuple[str, str]], *, markdown: bool) -> bool:
    """Measure `cases` (pipeline and size) and print them. Return whether a measurement is slower than its peer."""
    bar = track(cases, f"measuring {arithmetic}", console=Console(stderr=True), transient=True)
    results = [found for pipeline, size in bar for found in measure(pipeline, size)]
    results.sort(key=lambda found: found.cells[0], reverse=True)
    print(f"\nWith {arithmetic}:\n")
    print_comparisons(("", "pipeline", "size", "peer"), results, markdown=markdown)
    return any(found.ratio < 1 for found in results)


if __name__ == "__main__":
    sys.exit(main())
