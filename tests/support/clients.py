"""Python clients of the tests' servers."""

from pathlib import Path
from typing import Any

from codec_client import GrpcClient, HttpClient, LatentClient
from tests.support.serving import Servers, http_address


def make_client(servers: Servers, protocol: str, cache_dir: Path, **options: Any) -> LatentClient:
    """Return a client of `servers` for `protocol`, "http" or "grpc"; `options` are passed to its constructor."""
    if protocol == "grpc":
        return GrpcClient(servers.grpc_address, cache_dir=cache_dir, **options)
    return HttpClient(http_address(servers), cache_dir=cache_dir, **options)
