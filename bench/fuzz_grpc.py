"""Fuzz test of the gRPC server: sends random and damaged bytes as the request messages of every method.

    python -m bench.fuzz_grpc --messages 100000

The server runs in this process, see bench.fuzz_service. No call may end with the status UNKNOWN, which stands for an
unhandled exception, or INTERNAL. Nothing may be logged as an error, and the server must answer the health check
afterwards. The messages of the first call that violates this are written to fuzz-crash.bin, one in hexadecimal on each
line, and the run ends with exit status 1.
"""

import argparse
import asyncio
import logging
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from bench.fuzz import CRASH_FILE, mutated
from bench.fuzz_service import ErrorRecorder, fuzz_service
from bench.request_corpus import images
from codec_grpc.server import start_grpc_server
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.pipelines import PIPELINES
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from tests.support.latent_streams import body_of, random_stream

REPORT_EVERY = 10_000
CALL_TIMEOUT_S = 60.0
FORBIDDEN = (StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.UNIMPLEMENTED)
"""Statuses that no call may end with. UNIMPLEMENTED is for unsupported modalities, but this service supports all."""
SERVICES = (pb.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
Call = tuple[str, list[bytes]]
"""Path of a method, and the request messages of a call."""


class Corpus:
    """Valid calls of every method, and calls with random or damaged messages."""

    def __init__(self) -> None:
        self._methods = {
            f"/{service.full_name}/{method.name}": method
            for file in SERVICES
            for service in file.services_by_name.values()
            for method in service.methods
        }
        picture = images()[0]
        size = pb.PixelSize(width=64, height=64)
        latents = "/codec.latents.v1.LatentService"
        self._valid: dict[str, list[list[bytes]]] = {path: [[b""]] for path in self._methods}
        self._valid[f"{latents}/Generate"] = [
            [pb.GenerateRequest(**fields, size=size, steps=2).SerializeToString()] for fields in _generations(picture)
        ]
        self._valid[f"{latents}/Encode"] = [
            [pb.EncodeRequest(file=picture, pipeline=name, size=size).SerializeToString()] for name in PIPELINES
        ]
        self._valid[f"{latents}/Decode"] = [*map(_decode_messages, PIPELINES), *map(_decode_body, PIPELINES)]
        self._messages = [message for calls in self._valid.values() for call in calls for message in call if message]
        self._paths = list(self._methods)
        self._weights = [8 if path.startswith(latents) else 1 for path in self._paths]

    def method(self, path: str) -> Any:
        """Return the descriptor of the method at `path`."""
        return self._methods[path]

    def random_call(self, rng: random.Random) -> Call:
        """Return a call with random or damaged messages; a few are valid."""
        (path,) = rng.choices(self._paths, self._weights)
        messages = list(rng.choice(self._valid[path]))
        if self._methods[path].client_streaming:
            for _ in range(rng.randrange(3)):
                place = rng.randrange(len(messages) + 1)
                messages[place : place + rng.randrange(3)] = [self._random_message(rng, messages)]
        elif rng.random() < 0.95:
            messages = [self._random_message(rng, messages)]
        return path, messages

    def _random_message(self, rng: random.Random, messages: list[bytes]) -> bytes:
        kind = rng.randrange(10)
        if kind < 3:
            return rng.randbytes(rng.choice((0, 1, 2, 8, 100, 5000)))
        own = [message for message in messages if message]
        return mutated(rng, own if own and kind > 4 else self._messages)


def _generations(image: bytes) -> Iterator[dict[str, Any]]:
    """Yield the fields of valid requests for generations; `image` is an input image."""
    for name in PIPELINES:
        yield {"prompt": "a sea", "pipeline": name, "progress": True}
    yield {"prompt": "a sea", "modality": pb.MODALITY_VIDEO_LATENTS, "frames": 2, "fps": 8}
    yield {"prompt": "a sea", "image": image, "strength": 0.5}
    yield {"prompt": "a sea", "image": image, "mask": image, "scheduler": "euler", "preview_every": 1}
    yield {"prompt": "a sea", "latents": body_of(random_stream(shape=(4, 8, 8))), "strength": 0.5}
    yield {"prompt": "a sea", "negative_prompt": "ü", "random_seed": True, "guidance_scale": 2.0}
    yield {"prompt": "a sea", "extra": pb.ExtraParameters(guidance_rescale=0.5, clip_skip=1)}


def _decode_messages(pipeline: str) -> list[bytes]:
    header, frames = random_stream(pipeline, 2, shape=(4, 1, 2))
    requests = [pb.DecodeRequest(header=header_to_message(header))]
    requests += [pb.DecodeRequest(frame=frame_to_message(frame)) for frame in frames]
    return [request.SerializeToString() for request in requests]


def _decode_body(pipeline: str) -> list[bytes]:
    body = body_of(random_stream(pipeline, 2, shape=(4, 1, 2)))
    return [pb.DecodeRequest(body=body[start : start + 64]).SerializeToString() for start in range(0, len(body), 64)]


def send(channel: grpc.Channel, method: Any, path: str, messages: list[bytes]) -> StatusCode:
    """Make a call with serialized messages, read all responses and return the status."""
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    requests: Any = iter(messages) if method.client_streaming else messages[0]
    make: Any = getattr(channel, kind)(path)
    try:
        if not method.server_streaming:
            make(requests, timeout=CALL_TIMEOUT_S)
            return StatusCode.OK
        call = make(requests, timeout=CALL_TIMEOUT_S)
        for _ in call:
            if method.name == "Watch":  # never ends
                call.cancel()
    except grpc.RpcError as error:
        code: StatusCode = error.code()
        return code
    return StatusCode.OK


def run_client(port: int, messages: int, seed: int, recorder: ErrorRecorder) -> int:
    """Send `messages` messages and print a summary. Return the exit status.

    The channel is not from grpc.aio: if a call ends while messages are being sent, grpc.aio reports INTERNAL instead of
    the received status.
    """
    corpus, rng, statuses = Corpus(), random.Random(seed), Counter[str]()
    sent, reported, slowest, started = 0, 0, 0.0, time.monotonic()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        while sent < messages:
            path, call = corpus.random_call(rng)
            before = time.process_time()
            status = send(channel, corpus.method(path), path, call)
            slowest = max(slowest, time.process_time() - before)
            statuses[status.name] += 1
            sent += len(call)
            if status in FORBIDDEN or recorder.error is not None:
                CRASH_FILE.write_text("".join(f"{message.hex()}\n" for message in call))
                print(f"a call of {path} ended with {status.name}; its messages were written to {CRASH_FILE}")
                print(recorder.error, flush=True)
                return 1
            if sent - reported >= REPORT_EVERY or sent >= messages:
                reported = sent
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                print(
                    f"{sent} messages, {statuses.total()} calls, {time.monotonic() - started:.0f} s, "
                    f"{dict(statuses.most_common())}, slowest {slowest * 1000:.0f} ms of CPU time, "
                    f"at most {memory} MiB",
                    flush=True,
                )
        stub: Any = health_pb2_grpc.HealthStub(channel)
        health = stub.Check(health_pb2.HealthCheckRequest())
    return int(health.status != health_pb2.HealthCheckResponse.SERVING)


async def run(messages: int, seed: int) -> int:
    """Start a server and a client of it; return the exit status."""
    recorder = ErrorRecorder()
    logging.getLogger().addHandler(recorder)
    server = await start_grpc_server(fuzz_service(), "127.0.0.1", 0, CALL_TIMEOUT_S)
    status = await asyncio.to_thread(run_client, server.port, messages, seed, recorder)
    await server.stop()
    return status


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="number of messages (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random changes (default: %(default)s)")
    options = parser.parse_args()
    return asyncio.run(run(options.messages, options.seed))


if __name__ == "__main__":
    sys.exit(main())
