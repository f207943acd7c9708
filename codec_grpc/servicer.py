"""LatentService over gRPC: a few lines of protocol around the core's service."""

import asyncio
from contextlib import aclosing

import grpc.aio

from codec_grpc.messages import model_message, request_of, state_number
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceServicer
from codec_wire.protobuf_envelope import frame_message, header_message
from core import CODEC_VERSION, SERVER_VERSION
from core.engine import Event, Frame, Job, Started, deadline_of, out_of_time
from core.maps import pinned_hash
from core.pins import installed_versions, pin_differences
from core.service import LatentService

MAP_HASH_KEY = "codec-latent-map"
"""Initial metadata of every stream, as HTTP has it in the header Codec-Latent-Map."""

MAP_PIN_KEY = "x-codec-map"
"""Metadata of a request that pins the map its client holds, as HTTP has it in the header X-Codec-Map."""

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
        pin = dict(context.invocation_metadata() or ()).get(MAP_PIN_KEY)
        pinned = pinned_hash(None if pin is None else str(pin))
        plan = self._service.plan(request_of(request))
        self._service.require_map(pinned, plan)
        map_hash = self._service.served_of(plan).bundle.hash
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
                    async with deadline_of(job):
                        await context.write(_response(event))
                except TimeoutError:
                    raise out_of_time() from None

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        """Say what this server is; also while it loads."""
        served = self._service.served
        return pb.GetServerInfoResponse(
            server_version=SERVER_VERSION,
            codec_version=CODEC_VERSION,
            state=state_number(self._service.lifecycle.state),
            model=None if served is None else model_message(served.model),
            latent_map_hash=None if served is None else served.bundle.hash,
            versions=installed_versions(),
            pin_differences=pin_differences(),
            device="" if served is None else served.device,
            models=[
                pb.ServedModel(model=model_message(one.model), latent_map_hash=one.bundle.hash, device=one.device)
                for one in self._service.models
            ],
        )

    async def GetLatentMap(  # noqa: N802
        self, request: pb.GetLatentMapRequest, context: Context
    ) -> pb.GetLatentMapResponse:
        """Return the latent-space map and its files."""
        bundle = self._service.latent_map(request.latent_space if request.HasField("latent_space") else None)
        return pb.GetLatentMapResponse(hash=bundle.hash, document=bundle.document, assets=bundle.assets)


def _response(event: Event) -> pb.GenerateResponse:
    if isinstance(event, Started):
        return pb.GenerateResponse(header=header_message(event.header))
    if isinstance(event, Frame):
        return pb.GenerateResponse(frame=frame_message(event.frame))
    return pb.GenerateResponse(progress=pb.Progress(step=event.index, total_steps=event.total))
