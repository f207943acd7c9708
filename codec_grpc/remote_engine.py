"""The engine of a gateway, which forwards generations to a remote gRPC server."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from codec_grpc.messages import plan_to_message
from codec_grpc.upstream_calls import UpstreamCalls
from codec_wire.grpc import event_from_message
from core.engine import Event, Job
from core.plan import StreamPlan


class RemoteEngine:
    """Engine that uses `calls` to generate on servers whose latent-space map has the hash `map_hash`."""

    def __init__(self, calls: UpstreamCalls, map_hash: str) -> None:
        self._calls = calls
        self._map_hash = map_hash

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of the remote server as soon as they are received. See core.engine.Engine."""
        request = plan_to_message(plan, progress=job.reports_steps)
        async with aclosing(self._calls.messages("Generate", lambda: request, job, self._map_hash)) as messages:
            async for message in messages:
                event = event_from_message(message)
                if event is not None:
                    yield event
