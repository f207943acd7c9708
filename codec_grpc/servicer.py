"""The gRPC methods of LatentService."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, closing

import grpc
import grpc.aio

from codec_grpc import decode_call, encode_call
from codec_grpc.configuration import configuration_of_service
from codec_grpc.messages import request_from_message, served_model_to_message, state_to_message
from codec_wire.errors import InvalidRequest, NotFound, truncated_repr
from codec_wire.events import Frame, Preview, Started, Step, StreamEvent
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceServicer
from codec_wire.grpc import MAP_HASH_KEY, MAP_PIN_KEY, MODE_KEY, MODEL_KEY, PARAMETERS_KEY, SEED_KEY
from codec_wire.http import header_value
from codec_wire.latents import FinishReason
from codec_wire.maps import parse_map_pin
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from codec_wire.version import CODEC_VERSION, SERVER_VERSION
from core.deadline import Deadline
from core.engine import Job
from core.request_record import current_record
from core.response_parameters import response_parameters
from core.service import LatentService

COMPRESSION_KEY = "codec-compression"
"""Request metadata key that selects the compression of response messages.

Handlers cannot read the encoding of the request message, and every client lists gzip in its accepted encodings. Without
this key, a handler could therefore not detect whether a client wants compression.
"""

COMPRESSIONS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
"""The compression algorithms of gRPC by name. gRPC compresses every message separately."""

Context = grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateResponse]


class LatentServicer(LatentServiceServicer):
    """Implementation of LatentService. The interceptor converts CodecErrors of these methods to gRPC statuses."""

    def __init__(self, service: LatentService, request_timeout_s: float) -> None:
        self._service = service
        self._request_timeout_s = request_timeout_s

    async def Generate(  # type: ignore[override]  # noqa: N802 - the name is defined by the schema
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """Stream one generation. The client's deadline or cancellation stops the generation within one sampling step.

        The method sends messages with context.write() instead of yielding them. Therefore a cancellation is raised in
        this method even while a message is being sent, and the generation is closed immediately.
        """
        metadata = dict(context.invocation_metadata() or ())
        pin = metadata.get(MAP_PIN_KEY)
        pinned = parse_map_pin(None if pin is None else str(pin))
        compression = _compression(metadata.get(COMPRESSION_KEY))
        plan = self._service.plan(request_from_message(request))
        self._service.models.require_map_hash(pinned, plan)
        served = self._service.models.for_plan(plan)
        if compression is not None:
            context.set_compression(compression)
            current_record().coding = compression.name.lower()
        response_metadata = (
            (MAP_HASH_KEY, served.bundle.hash),
            (MODEL_KEY, header_value(plan.model)),
            (SEED_KEY, str(plan.seed)),
            (PARAMETERS_KEY, response_parameters(self._service, plan)),
            (MODE_KEY, str(served.acceleration)),
        )
        remaining = context.time_remaining()
        seconds = self._request_timeout_s if remaining is None else min(remaining, self._request_timeout_s)
        job = Job(deadline=asyncio.get_running_loop().time() + seconds, reports_steps=request.progress)
        async with aclosing(self._service.generate(plan, job)) as events:
            # A client that does not read must not keep the job active after the deadline.
            with closing(Deadline(job)) as deadline:
                async for event in events:
                    if isinstance(event, Started):
                        # Not before: proxies and retry policies repeat only calls that have no response headers yet.
                        await context.send_initial_metadata(response_metadata)
                    if request.progress or not isinstance(event, Step):
                        with deadline:
                            await context.write(_to_message(event))
                    if isinstance(event, Frame) and event.frame.done:
                        job.record.completed = event.frame.finish_reason is not FinishReason.ERROR

    async def Decode(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.DecodeRequest], context: decode_call.Context
    ) -> None:
        """Decode a latent stream to pixels. A cancellation takes effect after the current frame."""
        await decode_call.decode(self._service, request_iterator, context, self._request_timeout_s)

    async def Encode(  # type: ignore[override]  # noqa: N802
        self, request: pb.EncodeRequest, context: encode_call.Context
    ) -> None:
        """Encode an image or a video to a latent stream."""
        await encode_call.encode(self._service, request, context, self._request_timeout_s)

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        """Return the state, models and software versions of the server.

        The method is also available while the server is loading models.
        """
        provenance = self._service.provenance
        models = [served_model_to_message(instance) for instance in self._service.models]
        default = models[0] if models else None
        return pb.GetServerInfoResponse(
            server_version=SERVER_VERSION,
            codec_version=CODEC_VERSION,
            state=state_to_message(self._service.lifecycle.state),
            # Clients that do not know the field `models` read the default model from these three fields.
            model=None if default is None else default.model,
            latent_map_hash=None if default is None else default.latent_map_hash,
            device="" if default is None else default.device,
            versions=provenance.versions,
            pin_differences=provenance.pin_differences,
            models=models,
            image_digest=provenance.image_digest,
            configuration_hash=configuration_of_service(self._service),
        )

    async def GetLatentMap(  # noqa: N802
        self, request: pb.GetLatentMapRequest, context: Context
    ) -> pb.GetLatentMapResponse:
        """Return a latent-space map and the files that it refers to."""
        models, latent_space = self._service.models, request.latent_space if request.HasField("latent_space") else None
        bundle = models.require_map(latent_space)
        try:
            latent_rgb = models.require_latent_rgb(latent_space).serialize()
        except NotFound:
            latent_rgb = None
        return pb.GetLatentMapResponse(
            hash=bundle.hash, document=bundle.document, assets=bundle.assets, latent_rgb=latent_rgb
        )


def _compression(name: str | bytes | None) -> grpc.Compression | None:
    """Return the compression algorithm named `name`, or None for "identity" and for a missing name.

    Raises InvalidRequest if the name is unknown.
    """
    if name is None or name == "identity":
        return None
    compression = COMPRESSIONS.get(str(name))
    if compression is None:
        raise InvalidRequest(
            COMPRESSION_KEY, f"must be one of identity, {', '.join(COMPRESSIONS)}, got {truncated_repr(name)}"
        )
    return compression


def _to_message(event: StreamEvent) -> pb.GenerateResponse:
    if isinstance(event, Started):
        truncations = [
            pb.PromptTruncation(field=item.field, encoder=item.encoder, dropped_tokens=item.dropped_tokens)
            for item in event.truncations
        ]
        return pb.GenerateResponse(header=header_to_message(event.header), prompt_truncations=truncations)
    if isinstance(event, Frame):
        return pb.GenerateResponse(frame=frame_to_message(event.frame))
    if isinstance(event, Preview):
        frame = frame_to_message(event.frame)
        return pb.GenerateResponse(preview=pb.Preview(step=event.index, total_steps=event.total, frame=frame))
    return pb.GenerateResponse(progress=pb.Progress(step=event.index, total_steps=event.total))
