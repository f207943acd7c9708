"""Fuzz test of the decode endpoint: posts damaged bodies to a server with a small VAE with random weights.

    python -m bench.fuzz_decode --bodies 100000

The server must answer each body with 200 or a status from 400 to 499, and its memory must not grow. The first body with
another answer is written to fuzz-crash.bin, and the run ends with exit status 1.
"""

import argparse
import asyncio
import logging
import random
import resource
import sys
import time
from collections import Counter

import zstandard
from aiohttp import ClientSession

from bench.fuzz import CRASH_FILE, mutated
from codec_http.server import start_http_server
from codec_pixels.device import Device
from codec_wire import WireFormat
from codec_wire.codings import CODINGS
from codec_wire.http import DECODE_PATH, NPY_MEDIA_TYPE
from codec_wire.pipelines import PIPELINES
from core.admission import Admission
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.vae_engine import DiffusersVae
from core.lifecycle import Lifecycle, State
from core.served import ModelInstance
from core.service import LatentService
from tests.support.factories import load_from_factory
from tests.support.latent_streams import body_of, random_stream
from tests.support.serving import bundle_of

REPORT_EVERY = 10_000


def seeds() -> list[tuple[str, bytes]]:
    """Return a valid body (content coding, bytes) for each pipeline, wire format and coding."""
    found = []
    for pipeline in PIPELINES.values():
        stream = random_stream(pipeline.name, 2, shape=(4, 1, 2))
        for wire_format in WireFormat:
            body = body_of(stream, wire_format)
            for coding in CODINGS.values():
                if coding.uses_dictionary:
                    found.append((coding.name, zstandard.compress(body)))
                else:
                    compressor = coding.compressor()
                    found.append((coding.name, compressor.compress(body) + compressor.finish()))
    return found


async def run(bodies: int, seed: int) -> int:
    """Post `bodies` bodies and return the exit status."""
    device = Device.from_settings("cpu", "auto", 1)
    model, thread = load_from_factory("tests.support.tiny_sd:build_pipeline", device), device.new_executor()
    service = LatentService(Lifecycle(), Admission(32, 10**12))
    engine, vae = DiffusersEngine(model, thread), DiffusersVae(model, thread)
    service.models.replace([ModelInstance(model.info, bundle_of(model.info), engine, "cpu", vae=vae)])
    service.lifecycle.transition_to(State.SERVING)
    server = await start_http_server(service, "127.0.0.1", 0, 60)
    rng, corpus, statuses = random.Random(seed), seeds(), Counter[int]()
    by_coding = {name: [body for coding, body in corpus if coding == name] for name in CODINGS}
    started = time.process_time()
    try:
        async with ClientSession(f"http://127.0.0.1:{server.port}") as http:
            for number in range(1, bodies + 1):
                # Identity is the most frequent coding, because most damaged compressed bodies fail in the decompressor.
                coding = rng.choices(list(CODINGS), (1, 1, 1, 5))[0]
                valid = number <= len(corpus)
                coding, body = corpus[number - 1] if valid else (coding, mutated(rng, by_coding[coding]))
                headers = {"Content-Encoding": coding, "Accept": NPY_MEDIA_TYPE}
                async with http.post(DECODE_PATH, data=body, headers=headers) as response:
                    await response.read()
                    statuses[response.status] += 1
                    if not (response.status == 200 or 400 <= response.status < 500):
                        CRASH_FILE.write_bytes(body)
                        print(f"body {number} ({coding}) returned {response.status}; it was written to {CRASH_FILE}")
                        return 1
                if number % REPORT_EVERY == 0 or number == bodies:
                    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                    cpu = time.process_time() - started
                    print(f"{number} bodies, {cpu:.0f} s of CPU, at most {memory} MiB, {dict(statuses)}", flush=True)
    finally:
        await server.stop()
        thread.shutdown()
    return 0


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=100_000, help="number of bodies (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random changes (default: %(default)s)")
    options = parser.parse_args()
    logging.getLogger("codec_http").setLevel(logging.CRITICAL)
    return asyncio.run(run(options.bodies, options.seed))


if __name__ == "__main__":
    sys.exit(main())
