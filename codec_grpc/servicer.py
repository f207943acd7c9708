"""LatentService over gRPC: a few lines of protocol around the core's service."""

import asyncio
from contextlib import aclosing

import grpc
import grpc.aio

from codec_grpc.messages import model_message, request_of, state_number
from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.events import Frame, Started, StreamEvent
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceServicer
from codec_wire.grpc import MAP_HASH_KEY, MAP_PIN_KEY
from codec_wire.maps import parse_map_pin
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from codec_wire.version import CODEC_VERSION, SERVER_VERSION
from core.engine import Job, deadline_exceeded, job_timeout
from core.service import LatentService

COMPRESSION_KEY = "codec-compression"
"""Metadata of a request that asks for compressed messages. It is a key of ours, for gRPC shows a handler neither what
the client accepts (every client says gzip, unasked) nor how its request was compressed."""

COMPRESSIONS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
"""What gRPC has. Each message is compressed by itself."""

Context = grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateResponse]


class LatentServicer(LatentServiceServicer):
    """Answers the three methods. Errors leave it as core errors; the interceptor gives them a status."""

    def __init__(self, service: LatentService, request_timeout_s: float) -> None:
        self._service = service
        self._request_timeout_s = request_timeout_s

    async def Generate(  # type: ignore[override]  # noqa: N802 - the name is the schema's
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """Stream one generation; the client's deadline and its cancellation end it within one step.

        It writes instead of yielding: a cancellation then arises here, whether the sampler or the client is awaited,
        and the generation is closed at once.
        """
        metadata = dict(context.invocation_metadata() or ())
        pin = metadata.get(MAP_PIN_KEY)
        pinned = parse_map_pin(None if pin is None else str(pin))
        compression = _compression(metadata.get(COMPRESSION_KEY))
        plan = self._service.plan(request_of(request))
        self._service.models.require_map_hash(pinned, plan)
        map_hash = self._service.models.for_plan(plan).bundle.hash
        if compression is not None:
            context.set_compression(compression)
        await context.send_initial_metadata([(MAP_HASH_KEY, map_hash)])
        remaining = context.time_remaining()
        seconds = self._request_timeout_s if remaining is None else min(remaining, self._request_timeout_s)
        job = Job(deadline=asyncio.get_running_loop().time() + seconds)
        async with aclosing(self._service.generate(plan, job)) as events:
            async for event in events:
                if not (isinstance(event, Started | Frame) or request.progress):
                    continue
                try:
                    # The deadline counts for the client too: one that does not read must not keep its place for ever.
                    async with job_timeout(job):
                        await context.write(_response(event))
                except TimeoutError:
                    raise deadline_exceeded() from None

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        """Say what this server is; also while it loads."""
        served, provenance = self._service.models.default, self._service.provenance
        return pb.GetServerInfoResponse(
            server_version=SERVER_VERSION,
            codec_version=CODEC_VERSION,
            state=state_number(self._service.lifecycle.state),
            model=None if served is None else model_message(served.model),
            latent_map_hash=None if served is None else served.bundle.hash,
            versions=provenance.versions,
            pin_differences=provenance.pin_differences,
            device="" if served is None else served.device,
            models=[
                pb.ServedModel(model=model_message(one.model), latent_map_hash=one.bundle.hash, device=one.device)
                for one in self._service.models
            ],
            image_digest=provenance.image_digest,
        )

    async def GetLatentMap(  # noqa: N802
        self, request: pb.GetLatentMapRequest, context: Context
    ) -> pb.GetLatentMapResponse:
        """Return the latent-space map and its files."""
        bundle = self._service.models.require_map(request.latent_space if request.HasField("latent_space") else None)
        return pb.GetLatentMapResponse(hash=bundle.hash, document=bundle.document, assets=bundle.assets)


def _compression(asked: str | bytes | None) -> grpc.Compression | None:
    """Return what was asked for, None for nothing. Raises InvalidRequest for what gRPC does not have."""
    if asked is None or asked == "identity":
        return None
    found = COMPRESSIONS.get(str(asked))
    if found is None:
        raise InvalidRequest(
            COMPRESSION_KEY, f"must be identity, {' or '.join(COMPRESSIONS)}, got {truncated_repr(asked)}"
        )
    return found


def _response(event: StreamEvent) -> pb.GenerateResponse:
    if isinstance(event, Started):
        return pb.GenerateResponse(header=header_to_message(event.header))
    if isinstance(event, Frame):
        return pb.GenerateResponse(frame=frame_to_message(event.frame))
    return pb.GenerateResponse(progress=pb.Progress(step=event.index, total_steps=event.total))
