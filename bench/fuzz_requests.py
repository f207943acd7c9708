"""Fuzz test of the HTTP server: sends requests with damaged images or latents, or damaged request bodies.

    python -m bench.fuzz_requests images --inputs 200000
    python -m bench.fuzz_requests latents --inputs 20000
    python -m bench.fuzz_requests bodies --inputs 100000

The server runs in this process. Requests are validated and planned for a small Stable Diffusion pipeline, and input
images and latents are decoded, but nothing is sampled. Every request must get a response with a status below 500, and
nothing may be logged as an error. The first input that violates this is written to fuzz-crash.bin, and the run ends
with exit status 1.
"""

import argparse
import asyncio
import base64
import json
import logging
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from bench.fuzz import mutated
from bench.fuzz_service import ErrorRecorder, fuzz_service
from bench.request_corpus import bodies, images, latent_streams, mutated_image, mutated_request
from codec_http.server import start_http_server
from codec_wire.http import GENERATION_PATHS
from codec_wire.latents import Modality
from tests.support.serving import LATENT_SPACE

CRASH_FILE = Path("fuzz-crash.bin")
_FAILURES = (b"finish_reason\xa5error", b"event: error\n")
"""Bytes that a stream contains if the request failed after the header was sent."""
REPORT_EVERY = 10_000
RESPONSE_TIMEOUT_S = 300

JSON = {"Content-Type": "application/json"}
Request = tuple[str, bytes, dict[str, str]]
"""Path, body and headers."""


class Client:
    """An HTTP client on one connection, which is opened again when the server closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None
        self._reader = asyncio.StreamReader()

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a request; return the status and the received body. Raises OSError, EOFError or TimeoutError."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
        if self._writer is None or self._writer.is_closing() or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(head.encode("latin-1", "replace") + body)
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            received = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = received.lower()
            if "transfer-encoding: chunked" in fields:
                content = b"".join([chunk async for chunk in self._chunks()])
            else:
                length = fields.partition("content-length: ")[2].partition("\r\n")[0]
                content = await self._reader.readexactly(int(length))
        if "connection: close" in fields:
            self.close()
        return int(received.split(" ", 2)[1]), content

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        while size := int(await self._reader.readline(), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


async def run(make: Callable[[random.Random], Request], inputs: int, seed: int) -> int:
    """Send `inputs` requests from `make` and print a summary. Return the exit status."""
    server = await start_http_server(fuzz_service(), "127.0.0.1", 0, RESPONSE_TIMEOUT_S)
    recorder = ErrorRecorder()
    logging.getLogger().addHandler(recorder)
    rng, client, statuses = random.Random(seed), Client(server.port), Counter[int]()
    started, slowest, count = time.monotonic(), 0.0, 0
    while count < inputs:
        path, body, headers = make(rng)
        before = time.process_time()
        problem = None
        try:
            status, content = await client.post(path, body, headers)
            statuses[status] += 1
            if status >= 500 or (status == 200 and any(mark in content for mark in _FAILURES)):
                problem = f"status {status}, {content[-500:]!r}"
        except (OSError, EOFError, TimeoutError) as error:
            problem = f"no response: {error!r}"
        slowest = max(slowest, time.process_time() - before)
        count += 1
        if problem is not None or recorder.error is not None:
            CRASH_FILE.write_bytes(body)  # noqa: ASYNC240 - the run ends here
            print(f"input {count} failed; its body was written to {CRASH_FILE}: {path} {headers}")
            print(problem, recorder.error, sep="\n", flush=True)
            return 1
        if count % REPORT_EVERY == 0 or count == inputs:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(
                f"{count} inputs, {time.monotonic() - started:.0f} s, statuses {dict(sorted(statuses.items()))}, "
                f"slowest {slowest * 1000:.0f} ms of CPU time, at most {memory} MiB",
                flush=True,
            )
    client.close()
    await server.stop()
    return 0


def image_requests() -> Callable[[random.Random], Request]:
    """Return a function that creates a request with a damaged input image."""
    corpus = images()
    body = {"prompt": "x", "stream_format": "msgpack", "size": "64x64", "steps": 2}

    def make(rng: random.Random) -> Request:
        image = base64.b64encode(mutated_image(rng, corpus)).decode()
        field = rng.choice(("image", "control_image"))
        return GENERATION_PATHS[Modality.IMAGE], json.dumps(body | {field: image}).encode(), JSON

    return make


def latents_requests() -> Callable[[random.Random], Request]:
    """Return a function that creates a request with damaged input latents."""
    corpus = latent_streams(LATENT_SPACE)
    body = {"prompt": "x", "stream_format": "msgpack", "steps": 2}

    def make(rng: random.Random) -> Request:
        fields: dict[str, Any] = {"latents": base64.b64encode(mutated(rng, corpus)).decode()}
        if rng.random() < 0.2:
            fields |= rng.choice(({"size": "64x64"}, {"strength": 0.5}, {"image": "AAAA"}))
        return GENERATION_PATHS[Modality.IMAGE], json.dumps(body | fields).encode(), JSON

    return make


def body_requests() -> Callable[[random.Random], Request]:
    """Return a function that creates a request with a damaged body."""
    corpus = bodies(images()[0])
    return lambda rng: mutated_request(rng, corpus)


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("images", "latents", "bodies"), help="what is damaged")
    parser.add_argument("--inputs", type=int, default=100_000, help="number of requests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random changes (default: %(default)s)")
    options = parser.parse_args()
    makers = {"images": image_requests, "latents": latents_requests, "bodies": body_requests}
    return asyncio.run(run(makers[options.target](), options.inputs, options.seed))


if __name__ == "__main__":
    sys.exit(main())
