"""Connection of a gateway to its upstream server: discovery of the models, and health monitoring."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codec_grpc.messages import model_from_message, pixel_checks_from_message
from codec_grpc.remote_engine import RemoteEngine
from codec_grpc.remote_vae import RemoteVae
from codec_wire.errors import CodecError, NotReady
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import CHANNEL_OPTIONS, REQUEST_ID_KEY
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.latent_rgb import LatentRgb
from codec_wire.trace_context import TRACEPARENT_HEADER
from core.lifecycle import RETRY_AFTER_S, State
from core.pins import Provenance
from core.request_record import find_current_record
from core.served import ModelInstance
from core.service import LatentService

if TYPE_CHECKING:  # the generated module defines the class only in its type stubs
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub

log = logging.getLogger(__name__)

RETRY_INTERVAL_S = 1.0
RPC_TIMEOUT_S = 10.0


def upstream_channel(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Return a channel to the server at `address` (HOST:PORT), with TLS if there are `credentials`.

    Closing the channel cancels its active calls.
    """
    if credentials is not None:
        return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


class Upstream:
    """Connection to the server of `channel`, which keeps the models and the state of `service` up to date.

    `api_key` is the gateway's own key for that server. The keys of the gateway's clients are not forwarded.
    """

    def __init__(self, service: LatentService, channel: grpc.aio.Channel, api_key: str | None = None) -> None:
        self._service = service
        self._channel = channel
        self._api_key = api_key

    async def follow(self) -> None:
        """Load the models, then watch the health of the server. If the server is lost, repeat both.

        Runs until cancelled.
        """
        logged_reason: str | None = None
        while True:
            try:
                await self._load_models(self._stub())
                self._service.lifecycle.transition_to(State.SERVING)
                names = ", ".join(instance.model.name for instance in self._service.models)
                log.info("the upstream server serves %s", names)
                logged_reason = None
                await self._watch(health_pb2_grpc.HealthStub(self._channel))
                reason = "it stopped serving"
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
            except CodecError as error:
                reason = str(error)
            except Exception:  # an unexpected response must not stop the gateway
                log.exception("the upstream server returned an invalid response")
                reason = "its response is invalid"
            if self._service.lifecycle.state in (State.LOADING, State.SERVING):
                self._service.lifecycle.transition_to(State.LOADING)
            if reason != logged_reason:
                log.warning("waiting for the upstream server: %s", reason)
            logged_reason = reason
            await asyncio.sleep(RETRY_INTERVAL_S)

    def _stub(self) -> "LatentServiceAsyncStub":
        """Return a stub that sends the API key, and the id and the trace of the request, with every call."""
        stub = LatentServiceStub(self._channel)
        for name in pb.DESCRIPTOR.services_by_name["LatentService"].methods_by_name:
            setattr(stub, name, partial(self._call, getattr(stub, name)))
        return stub

    def _call(self, method: Callable[..., Any], request: Any, **options: Any) -> Any:
        metadata = [] if self._api_key is None else [("authorization", f"Bearer {self._api_key}")]
        record = find_current_record()
        if record is not None:  # the call is part of a request
            metadata.append((REQUEST_ID_KEY, record.request_id))
            if record.traceparent is not None:
                metadata.append((TRACEPARENT_HEADER, record.traceparent))
        return method(request, metadata=metadata, **options)

    async def _load_models(self, stub: "LatentServiceAsyncStub") -> None:
        """Replace the service's models and provenance by those of the server. Raises NotReady if it is not serving."""
        info = await stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=RPC_TIMEOUT_S)
        if info.state != pb.SERVER_STATE_SERVING:
            raise NotReady(f"its state is {pb.ServerState.Name(info.state)}", RETRY_AFTER_S)
        # Servers that do not know the field `models` have one model, described by `model` and `device`.
        descriptions = list(info.models) or [pb.ServedModel(model=info.model, device=info.device)]
        instances = []
        for description in descriptions:
            model = model_from_message(description.model)
            request = pb.GetLatentMapRequest(latent_space=model.latent_space)
            response = await stub.GetLatentMap(request, timeout=RPC_TIMEOUT_S)
            bundle = LatentMapBundle.from_parts(response.document, response.assets)
            checks = pixel_checks_from_message(description)
            generates = description.generates or not description.HasField("generates")
            engine = RemoteEngine(stub, bundle.hash) if generates else None
            vae = RemoteVae(stub) if description.decodes and description.encodes else None
            matrix = LatentRgb.parse(response.latent_rgb) if response.HasField("latent_rgb") else None
            instances.append(ModelInstance(model, bundle, engine, description.device, checks, vae, latent_rgb=matrix))
        digest = info.image_digest if info.HasField("image_digest") else None
        self._service.provenance = Provenance(dict(info.versions), list(info.pin_differences), digest)
        self._service.models.replace(instances)

    @staticmethod
    async def _watch(stub: Any) -> None:
        """Wait until the health service of the server reports another status than SERVING."""
        async for response in stub.Watch(health_pb2.HealthCheckRequest()):
            if response.status != health_pb2.HealthCheckResponse.SERVING:
                return
