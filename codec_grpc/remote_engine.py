"""The engine of a gateway, which forwards generations to a remote gRPC server."""

from collections.abc import AsyncGenerator

from codec_grpc.messages import plan_to_message
from codec_grpc.upstream_calls import UpstreamCalls
from core.engine import Event, Job
from core.plan import StreamPlan


class RemoteEngine:
    """Engine that uses `calls` to generate on servers whose latent-space map has the hash `map_hash`."""

    def __init__(self, calls: UpstreamCalls, map_hash: str) -> None:
        self._calls = calls
        self._map_hash = map_hash

    def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of the remote server as soon as they are received. See core.engine.Engine."""
        request = plan_to_message(plan, progress=job.reports_steps)
        return self._calls.generate(request, job, self._map_hash)
