"""Keeps a gateway's view of the server behind it: what it serves, and whether it does."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codec_grpc.messages import model_of
from codec_grpc.remote_engine import RemoteEngine
from codec_wire.errors import CodecError, NotReady
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import CHANNEL_OPTIONS
from codec_wire.maps import LatentMapBundle
from core.lifecycle import RETRY_AFTER_S, State
from core.pins import Provenance
from core.served import ModelInstance
from core.service import LatentService

if TYPE_CHECKING:  # the stub of an asyncio channel exists for the type checker alone
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub

log = logging.getLogger(__name__)

RETRY_S = 1.0
ANSWER_TIMEOUT_S = 10.0


def upstream_channel(address: str) -> grpc.aio.Channel:
    """Return a channel to the server at `address` (HOST:PORT). Closing it cancels what runs over it."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


class Upstream:
    """Follows the server behind `channel` and tells `service` what it may serve."""

    def __init__(self, service: LatentService, channel: grpc.aio.Channel) -> None:
        self._service = service
        self._channel = channel

    async def follow(self) -> None:
        """Run until cancelled: learn, watch; and again whenever the server is lost."""
        said: str | None = None
        while True:
            try:
                await self._learn(LatentServiceStub(self._channel))
                self._service.lifecycle.transition_to(State.SERVING)
                names = ", ".join(served.model.name for served in self._service.models)
                log.info("the upstream serves %s", names)
                said = None
                await self._watch(health_pb2_grpc.HealthStub(self._channel))
                reason = "it no longer serves"
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
            except CodecError as error:
                reason = str(error)
            except Exception:  # an answer that nobody foresaw must not end the gateway
                log.exception("the upstream gave an answer that cannot be used")
                reason = "its answer cannot be used"
            if self._service.lifecycle.state in (State.LOADING, State.SERVING):
                self._service.lifecycle.transition_to(State.LOADING)
            if reason != said:
                log.warning("waiting for the upstream: %s", reason)
            said = reason
            await asyncio.sleep(RETRY_S)

    async def _learn(self, stub: "LatentServiceAsyncStub") -> None:
        """Let the service serve what the server does, and say what that one says of its pixels' origin."""
        info = await stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=ANSWER_TIMEOUT_S)
        if info.state != pb.SERVER_STATE_SERVING:
            raise NotReady(f"it is {pb.ServerState.Name(info.state)}", RETRY_AFTER_S)
        # Servers before `models` had one, and said it in the fields beside.
        listed = list(info.models) or [pb.ServedModel(model=info.model, device=info.device)]
        served = []
        for one in listed:
            model = model_of(one.model)
            asked = pb.GetLatentMapRequest(latent_space=model.latent_space)
            answer = await stub.GetLatentMap(asked, timeout=ANSWER_TIMEOUT_S)
            bundle = LatentMapBundle.from_parts(answer.document, answer.assets)
            served.append(ModelInstance(model, bundle, RemoteEngine(stub, bundle.hash), one.device))
        digest = info.image_digest if info.HasField("image_digest") else None
        self._service.provenance = Provenance(dict(info.versions), list(info.pin_differences), digest)
        self._service.models.replace(served)

    @staticmethod
    async def _watch(stub: Any) -> None:
        """Return when the server says that it no longer serves."""
        async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
            if answer.status != health_pb2.HealthCheckResponse.SERVING:
                return
