"""Fuzz test: passes damaged bodies to the stream decoder and to inspect().

    python -m bench.fuzz --inputs 1000000
    python -m bench.fuzz --minutes 60 --guided      # coverage-guided; needs `pip install atheris`

For any input, the only allowed exception is StreamError, it must be raised quickly, and memory must not grow. The first
input that violates this is written to fuzz-crash.bin, and the run ends with exit status 1.
"""

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np
import zstandard

INSTRUMENTED: AbstractContextManager[object] = nullcontext()
if "--guided" in sys.argv:
    import atheris

    INSTRUMENTED = atheris.instrument_imports(include=["codec_client", "codec_wire", "core"])
with INSTRUMENTED:  # atheris instruments only what is imported here
    from codec_client import LatentStreamDecoder
    from codec_client.inspection import inspect
    from codec_wire import WireFormat, encode
    from codec_wire.codings import CODINGS
    from codec_wire.encoder import LatentEncoder
    from codec_wire.errors import StreamError
    from codec_wire.latents import LatentDtype, LatentStreamHeader
    from codec_wire.pipelines import PIPELINES, Scales

MAX_BYTES = 2**20
"""Maximum size of a decompressed body. Inputs are small, so larger bodies are decompression bombs."""
SLOW_S = 5.0
"""Maximum CPU time for one input, in seconds."""
CRASH_FILE = Path("fuzz-crash.bin")
REPORT_EVERY = 100_000


def seeds() -> list[bytes]:
    """Return a valid input for each pipeline, format and coding: a control byte (see `check`), then the body."""
    rng = np.random.default_rng(0)
    found = []
    for row in PIPELINES.values():
        scales = np.ones(2, "<f2").tobytes() if row.scales is Scales.STATIC else None
        header = LatentStreamHeader("a/b", (2, 2, 3), LatentDtype.FP16, row.name, scales=scales, total_frames=2)
        encoder = LatentEncoder(header)
        frames = [
            encoder.encode(rng.standard_normal(header.shape), keyframe=seq == 0 or not row.delta, last=seq == 1)
            for seq in range(2)
        ]
        for wire_format in WireFormat:
            parts = [encode(header, wire_format), *(encode(frame, wire_format) for frame in frames)]
            for number, coding in enumerate(CODINGS.values()):
                if coding.name == "zstd":
                    found.append(bytes([number]) + zstandard.compress(b"".join(parts)))
                    continue
                compressor = coding.compressor()
                found.append(bytes([number]) + b"".join([*map(compressor.compress, parts), compressor.finish()]))
    return found


def check(data: bytes) -> None:
    """Run one input, whose first byte selects the coding and the size of the pieces. Raises on a forbidden result."""
    if not data:
        return
    control, body = data[0], data[1:]
    coding = list(CODINGS)[control % len(CODINGS)]
    step = (1, 7, 64, 1 << 20)[control // len(CODINGS) % 4]
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    decoder = LatentStreamDecoder(encoding=coding, max_bytes=MAX_BYTES)
    valid = False
    with suppress(StreamError):
        for piece in pieces:
            for latents in decoder.feed(piece):
                if decoder.header is None or latents.shape != decoder.header.shape:
                    raise AssertionError(
                        "the decoder returned latents without a header, or with another shape than the header's"
                    )
        decoder.close()
        valid = True
    report = inspect(pieces, encoding=coding, max_bytes=MAX_BYTES)
    if valid != (report.problem is None):
        raise AssertionError(
            f"the decoder {'accepts' if valid else 'rejects'} the input, "
            f"but inspect() reports the problem {report.problem}"
        )


def mutated(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Return an input from `corpus` with one to eight random changes."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            del data[place : place + rng.randint(1, 16)]
        elif kind == 4:
            other = rng.choice(corpus)
            start = rng.randrange(len(other))
            data[place:place] = other[start : start + rng.randint(1, 64)]
        else:
            del data[place:]
    return bytes(data)


class Run:
    """A run of up to `inputs` inputs and `seconds` seconds. Counts the inputs and records the slowest."""

    def __init__(self, inputs: int, seconds: float) -> None:
        self.count = 0
        self.slowest = 0.0
        self._inputs = inputs
        self._started = time.monotonic()
        self._end = self._started + seconds

    def one(self, data: bytes) -> None:
        """Check one input. On failure, write it to CRASH_FILE and raise."""
        start = time.process_time()  # CPU time, because other processes may be running
        try:
            check(data)
            took = time.process_time() - start
            if took > SLOW_S:
                raise AssertionError(f"one input of {len(data)} bytes took {took:.1f} s of CPU time, which is too long")
        except BaseException:
            CRASH_FILE.write_bytes(data)
            print(f"input {self.count + 1} failed; it was written to {CRASH_FILE}", flush=True)
            raise
        self.slowest = max(self.slowest, took)
        self.count += 1
        if self.count % REPORT_EVERY == 0:
            self.print_status()

    @property
    def finished(self) -> bool:
        """Whether the requested number of inputs or the time limit was reached."""
        return self.count >= self._inputs or time.monotonic() > self._end

    def print_status(self) -> None:
        """Print the number of inputs, duration, peak memory and slowest input."""
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        seconds = time.monotonic() - self._started
        print(
            f"{self.count} inputs, {seconds:.0f} s, at most {memory} MiB, slowest {self.slowest * 1000:.0f} ms",
            flush=True,
        )


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10**7, help="maximum number of inputs (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit in minutes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random changes (default: %(default)s)")
    parser.add_argument("--guided", action="store_true", help="choose inputs by code coverage, with atheris")
    options = parser.parse_args()
    run = Run(options.inputs, options.minutes * 60)
    if options.guided:
        guided(run)
    rng, corpus = random.Random(options.seed), seeds()
    for body in corpus:
        run.one(body)
    while not run.finished:
        run.one(mutated(rng, corpus))
    run.print_status()
    return 0


def guided(run: Run) -> None:
    """Let atheris choose the inputs by code coverage. Ends the process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    for number, body in enumerate(seeds()):
        (folder / f"seed-{number}").write_bytes(body)

    def one(data: bytes) -> None:
        run.one(data)
        if run.finished:
            run.print_status()
            sys.stdout.flush()
            os._exit(0)

    atheris.Setup([sys.argv[0], str(folder), "-max_len=2048", "-rss_limit_mb=2048", "-verbosity=0"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
