"""The VAE of a gateway. It decodes and encodes on a remote gRPC server."""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from codec_grpc.pixel_formats import format_to_message
from codec_grpc.upstream_call import timeout_of, upstream_call
from codec_wire.events import Frame, Started
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import LatentFrame
from codec_wire.protobuf_envelope import frame_from_message, frame_to_message, header_from_message, header_to_message
from core.decode_plan import DecodePlan
from core.encode_plan import EncodePlan
from core.engine import Job

if TYPE_CHECKING:  # the generated module defines the class only in its type stubs
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub


class RemoteVae:
    """Decodes and encodes on the server of `stub`. See core.vae_engine.VaeEngine."""

    def __init__(self, stub: "LatentServiceAsyncStub") -> None:
        self._stub = stub

    async def decode(self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job) -> AsyncGenerator[bytes, None]:
        """Yield the pixels as they are received. See core.vae_engine.VaeEngine."""
        call = self._stub.Decode(_requests(plan, frames), timeout=timeout_of(job))
        async with upstream_call(call, job, plan.map_hash):
            async for message in call:
                if message.WhichOneof("event") == "data":
                    yield message.data

    async def encode(self, plan: EncodePlan, job: Job) -> AsyncGenerator[Started | Frame, None]:
        """Yield the events as they are received. See core.vae_engine.VaeEngine."""
        request = pb.EncodeRequest(
            file=plan.file.data,
            model=plan.model,
            latent_space=plan.header.latent_space_id,
            pipeline=plan.header.pipeline,
            size=pb.PixelSize(width=plan.width, height=plan.height),
            keyframe_interval=plan.keyframe_interval,
            seed=plan.seed,
        )
        call = self._stub.Encode(request, timeout=timeout_of(job))
        async with upstream_call(call, job, plan.map_hash):
            async for message in call:
                if message.WhichOneof("event") == "header":
                    yield Started(header_from_message(message.header))
                elif message.WhichOneof("event") == "frame":
                    yield Frame(frame_from_message(message.frame))


async def _requests(plan: DecodePlan, frames: Sequence[LatentFrame]) -> AsyncGenerator[pb.DecodeRequest, None]:
    """Yield the request messages from which a server with the same model and latent-space map derives the same plan."""
    options = pb.DecodeOptions(model=plan.model, format=format_to_message(plan.pixel_format), quality=plan.quality)
    yield pb.DecodeRequest(header=header_to_message(plan.header), options=options)
    for frame in frames:
        yield pb.DecodeRequest(frame=frame_to_message(frame))
