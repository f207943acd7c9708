"""Start of the HTTP servers that the settings configure, for the commands `serve` and `gateway`."""

import typer

from codec_http.connection_limits import ConnectionLimits
from codec_http.metrics import MetricsServer, start_metrics_server
from codec_http.server import HttpServer, start_http_server
from codec_wire.http import METRICS_PATH
from core.address import host_port
from core.api_keys import ApiKeys
from core.service import LatentService
from core.settings import Settings
from core.tls import ServerTls
from core.video_jobs.job import JobLimits
from core.video_jobs.video_jobs import VideoJobs


async def start_configured_http(
    settings: Settings, service: LatentService, api_keys: ApiKeys | None, tls: ServerTls | None
) -> HttpServer:
    """Start the HTTP server for `service` on the address in `settings`.

    Raises InvalidSettings if the address or the directory of the video jobs is not available.
    """
    limits = JobLimits.from_settings(settings)
    video_jobs = VideoJobs(service, settings.request_timeout_s, limits, settings.data_dir)
    await video_jobs.start()
    return await start_http_server(
        service,
        settings.host,
        settings.port,
        settings.request_timeout_s,
        settings.public_url,
        api_keys=api_keys,
        tls=tls,
        limits=ConnectionLimits(settings.max_connections, settings.max_connections_per_ip),
        allowed_origins=settings.allowed_origin_list,
        video_jobs=video_jobs,
    )


async def start_configured_metrics(settings: Settings, service: LatentService) -> list[MetricsServer]:
    """Start a metrics server for `service`, and print the address of the metrics server.

    If no separate port is configured for metrics, do nothing. Raises InvalidSettings if the address is not available.
    """
    if settings.metrics_port is None:
        return []
    server = await start_metrics_server(service, settings.host, settings.metrics_port)
    typer.echo(f"  metrics  http://{host_port(settings.host, server.port)}{METRICS_PATH}")
    return [server]
