"""Encode and decode throughput per pipeline, as a ratio to a named peer in the same run.

Encoding is compared with codecai's LatentStreamEncoder, including the envelope. For `raw`, this project is slower
because it checks for NaN and Inf and codecai does not. A second row compares it with codecai and np.isfinite, which
gives the same guarantee.

codecai does not have a decoder for latents, so decoding is compared with the published inverse formula, written channel
by channel in NumPy below, without checks except np.isfinite for raw. Both start from the frame's bytes. Runs of the two
alternate, and their medians are compared.

    python -m bench.encode              print a table
    python -m bench.encode --markdown   print the table of docs/benchmarks.md
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from codecai.server.latent_frame import LatentStreamEncoder
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from codec_wire import WireFormat, encode
from codec_wire.decoder import LatentDecoder
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentDtype, LatentStreamHeader
from codec_wire.pipelines import PIPELINES, Scales

SHAPES = ((4, 64, 64), (4, 128, 128), (16, 128, 128))
FRAMES = 8
"""Latent frames in a stream: one keyframe and seven residuals for delta pipelines."""
RUNS = 60


@dataclass(frozen=True, slots=True)
class Measurement:
    """Median seconds per frame of this project (`ours`) and of the peer."""

    pipeline: str
    shape: tuple[int, ...]
    direction: str
    peer_name: str
    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        """The speed relative to the peer; above 1 is faster."""
        return self.peer / self.ours

    @property
    def too_slow(self) -> bool:
        """Whether it is slower than a peer that does the same work."""
        peer_does_less = self.pipeline == "raw" and self.peer_name == "codecai"
        return self.ratio < 1 and not peer_does_less


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


def medians(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[float, float]:
    """Return the median seconds per frame of both functions, which run alternately."""
    durations: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS):
        for times, function in zip(durations, (ours, peer), strict=True):
            start = time.perf_counter()
            function()
            times.append((time.perf_counter() - start) / FRAMES)
    return statistics.median(durations[0]), statistics.median(durations[1])


def measure(pipeline: str, shape: tuple[int, ...]) -> Iterator[Measurement]:
    """Yield measurements of encoding and decoding for one pipeline and shape, after checking that results are equal."""
    rng = np.random.default_rng(0)
    latents = [rng.standard_normal(shape).astype(np.float16) for _ in range(FRAMES)]
    header = header_for(pipeline, shape)
    if our_encoding(header, latents) != peer_encoding(header, latents):
        raise AssertionError(f"{pipeline} {shape}: the two encoders differ")

    def encode_all() -> list[bytes]:
        return our_encoding(header, latents)

    def checked_peer() -> list[bytes]:
        if not all(np.isfinite(latent).all() for latent in latents):
            raise ValueError("not finite")
        return peer_encoding(header, latents)

    yield Measurement(
        pipeline, shape, "encode", "codecai", *medians(encode_all, lambda: peer_encoding(header, latents))
    )
    if header.pipeline_spec.bits is None:
        yield Measurement(pipeline, shape, "encode", "codecai + isfinite", *medians(encode_all, checked_peer))
    encoder = LatentEncoder(header)
    frames = [
        encoder.encode(latent, keyframe=seq == 0 or not header.pipeline_spec.delta, last=seq == FRAMES - 1)
        for seq, latent in enumerate(latents)
    ]
    data = [frame.data for frame in frames]

    def decode_all() -> list[Any]:
        decoder = LatentDecoder(header)
        return [decoder.decode(frame) for frame in frames]

    for one, other in zip(decode_all(), formula_decoding(header, data), strict=True):
        np.testing.assert_array_equal(one, other)
    yield Measurement(
        pipeline, shape, "decode", "formula", *medians(decode_all, lambda: formula_decoding(header, data))
    )


def report(results: list[Measurement], *, markdown: bool) -> None:
    """Print the measurements as a table."""
    heading = ("", "pipeline", "frame", "peer", "ours, µs", "peer, µs", "ratio", "ours, MB/s of fp16")
    rows = [
        (
            found.direction,
            found.pipeline,
            str(list(found.shape)),
            found.peer_name,
            f"{found.ours * 1e6:.0f}",
            f"{found.peer * 1e6:.0f}",
            f"{found.ratio:.1f}x",
            f"{np.prod(found.shape) * 2 / found.ours / 1e6:.0f}",
        )
        for found in results
    ]
    if markdown:
        for cells in (heading, ("---",) * len(heading), *rows):
            print("| " + " | ".join(cells) + " |")
        return
    table = Table(*heading, title=f"NumPy {np.__version__} on {platform.machine()}, one thread")
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)


def main() -> int:
    """Run the command line. Return exit status 1 if a measurement is slower than its peer."""
    parser = argparse.ArgumentParser(description="Encode and decode throughput as a ratio to a named peer.")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    cases = [(pipeline, shape) for pipeline in PIPELINES for shape in SHAPES]
    bar = track(cases, "measuring", console=Console(stderr=True), transient=True)
    results = [found for pipeline, shape in bar for found in measure(pipeline, shape)]
    report(sorted(results, key=lambda found: found.direction, reverse=True), markdown=options.markdown)
    slower = [found for found in results if found.too_slow]
    for found in slower:
        print(f"slower than its peer: {found.direction} {found.pipeline} {list(found.shape)}, {found.ratio:.2f}x")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
