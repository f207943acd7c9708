"""The `gateway` command, which serves HTTP in front of remote gRPC servers. The command does not import torch."""

from typing import Any

from codec_server.errors import report_cli_errors
from codec_server.flags import with_settings

SETTINGS = (
    "upstream",
    "upstream_api_key",
    "upstream_tls_ca",
    "upstream_tls_cert",
    "upstream_tls_key",
    "host",
    "port",
    "public_url",
    "max_jobs",
    "max_jobs_per_client",
    "max_cost",
    "max_request_mib",
    "max_connections",
    "max_connections_per_ip",
    "request_timeout_s",
    "data_dir",
    "max_video_jobs",
    "max_video_mib",
    "video_expiry_s",
    "drain_timeout_s",
    "log_level",
    "api_key",
    "api_keys_file",
    "allowed_origins",
    "tls_cert",
    "tls_key",
    "tls_client_ca",
)
"""The settings that a gateway uses."""


@with_settings(SETTINGS)
def gateway(**flags: Any) -> None:
    """Serve HTTP in front of remote gRPC servers. The command does not need torch.

    Example: codec-diffusers gateway --upstream 10.0.0.7:50051,10.0.0.8:50051 --port 8080
    """
    with report_cli_errors():
        from codec_server.actions.gateway import run_gateway
        from codec_server.runner import run_server

        run_server(flags, run_gateway)
