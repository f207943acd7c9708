"""CPU time of the client for a zstd body of 262 kB, as a ratio to two other ways of decompressing it.

The body is an `int8` stream of one frame, received in chunks of 64 KiB. Both peers decompress it with the same library.
The first passes pieces of 256 bytes, which limits the output of each call; the second makes one call without a limit.

    python -m bench.client_decoding              print a table
    python -m bench.client_decoding --markdown   print the table of docs/benchmarks.md
"""

import argparse
import sys

import numpy as np
import zstandard

from bench.comparison import compare, print_comparisons
from codec_wire import WireFormat, encode
from codec_wire.codings import CODINGS
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentDtype, LatentStreamHeader

SHAPE = (16, 128, 128)
CHUNK_BYTES = 64 * 1024


def sample_body() -> bytes:
    """Return a zstd body without a dictionary."""
    scales = np.full(SHAPE[0], 4, "<f2").tobytes()
    header = LatentStreamHeader("bench/latents", SHAPE, LatentDtype.FP16, "int8", scales, total_frames=1)
    latents = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float16)
    frame = LatentEncoder(header).encode(latents, keyframe=True, last=True)
    compressor = CODINGS["zstd"].compressor()
    messages = [compressor.compress(encode(message, WireFormat.MSGPACK)) for message in (header, frame)]
    return b"".join([*messages, compressor.finish()])


def main() -> int:
    """Run the command line. Return exit status 1 if decompression in pieces of 256 bytes is faster."""
    parser = argparse.ArgumentParser(description="CPU time of the client for a zstd body.")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    body = sample_body()
    chunks = [body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES)]

    def decompressed() -> bytes:
        decompressor = CODINGS["zstd"].decompressor()
        found = b"".join(piece for chunk in chunks for piece in decompressor.expand(chunk))
        decompressor.finish()
        return found

    def in_small_pieces() -> bytes:
        context = zstandard.ZstdDecompressor().decompressobj()
        return b"".join(context.decompress(body[start : start + 256]) for start in range(0, len(body), 256))

    def in_one_call() -> bytes:
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)

    if not decompressed() == in_small_pieces() == in_one_call():
        raise AssertionError("the decompressed bytes differ")
    results = [
        compare(("decompress zstd", "256 bytes at a time"), decompressed, in_small_pieces, 1, 2.0),
        compare(("decompress zstd", "one call, no limit"), decompressed, in_one_call, 1, 0.5),
    ]
    print_comparisons(("client", "peer"), results, markdown=options.markdown)
    return 1 if results[0].ratio < 1 else 0


if __name__ == "__main__":
    sys.exit(main())
