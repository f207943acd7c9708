"""A server process with NoiseEngine, which starts without torch: python -m tests.support.noise_server [GRPC_PORT]

Prints a line with the ports as soon as it is ready, and drains at SIGTERM like `codec-diffusers serve`.
"""

import sys

from codec_grpc.server import start_grpc_server
from codec_http.server import start_http_server
from codec_server.runner import drain, run_server, stop_on_signals
from core.admission import Admission
from core.lifecycle import Lifecycle, State
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings
from tests.support.noise_engine import NoiseEngine
from tests.support.serving import MODEL, bundle_of

GENERATION_S = 0.02
"""Duration of a generation, so that some are active when the server is stopped."""


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM."""
    stop = stop_on_signals()
    service = LatentService(Lifecycle(), Admission(settings.max_jobs, settings.max_cost))
    service.models.replace([ModelInstance(MODEL, bundle_of(MODEL), NoiseEngine(GENERATION_S), "test device")])
    http = await start_http_server(service, settings.host, settings.port, settings.request_timeout_s)
    grpc = await start_grpc_server(service, settings.host, settings.grpc_port, settings.request_timeout_s)
    service.lifecycle.transition_to(State.SERVING)
    print(f"http=127.0.0.1:{http.port} grpc=127.0.0.1:{grpc.port}", flush=True)
    await stop.wait()
    await drain(service, settings.drain_timeout_s, [http, grpc])


if __name__ == "__main__":
    grpc_port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    run_server({"port": 0, "grpc_port": grpc_port, "max_jobs": 1024, "log_level": "warning"}, serve)
