"""The VAE of a gateway, which forwards decoding and encoding to a remote gRPC server."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from codec_grpc.pixel_formats import format_to_message
from codec_grpc.upstream_calls import UpstreamCalls
from codec_wire.events import Frame, Started
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import LatentFrame
from codec_wire.protobuf_envelope import frame_from_message, frame_to_message, header_from_message, header_to_message
from core.decode_plan import DecodePlan
from core.encode_plan import EncodePlan
from core.engine import Job


class RemoteVae:
    """VAE engine that uses `calls` to decode and encode on an upstream server.

    See core.vae_engine.VaeEngine.
    """

    def __init__(self, calls: UpstreamCalls) -> None:
        self._calls = calls

    async def decode(self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job) -> AsyncGenerator[bytes, None]:
        """Yield the pixels as soon as they are received. See core.vae_engine.VaeEngine."""
        received = self._calls.messages("Decode", lambda: _requests(plan, frames), job, plan.map_hash)
        async with aclosing(received) as messages:
            async for message in messages:
                if message.WhichOneof("event") == "data":
                    yield message.data

    async def encode(self, plan: EncodePlan, job: Job) -> AsyncGenerator[Started | Frame, None]:
        """Yield the events as soon as they are received. See core.vae_engine.VaeEngine."""
        request = pb.EncodeRequest(
            file=plan.file.data,
            model=plan.model,
            latent_space=plan.header.latent_space_id,
            pipeline=plan.header.pipeline,
            size=pb.PixelSize(width=plan.width, height=plan.height),
            keyframe_interval=plan.keyframe_interval,
            seed=plan.seed,
        )
        async with aclosing(self._calls.messages("Encode", lambda: request, job, plan.map_hash)) as messages:
            async for message in messages:
                if message.WhichOneof("event") == "header":
                    yield Started(header_from_message(message.header))
                elif message.WhichOneof("event") == "frame":
                    yield Frame(frame_from_message(message.frame))


async def _requests(plan: DecodePlan, frames: Sequence[LatentFrame]) -> AsyncGenerator[pb.DecodeRequest, None]:
    """Yield Decode requests from which a server with the same map derives a plan equal to `plan`."""
    options = pb.DecodeOptions(model=plan.model, format=format_to_message(plan.pixel_format), quality=plan.quality)
    yield pb.DecodeRequest(header=header_to_message(plan.header), options=options)
    for frame in frames:
        yield pb.DecodeRequest(frame=frame_to_message(frame))
