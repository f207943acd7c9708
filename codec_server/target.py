"""The place where the model of a command runs: a server or this process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codec_client import GrpcClient, HttpClient, LatentClient
from codec_server.in_process import InProcessClient
from codec_wire import WireFormat
from codec_wire.errors import InvalidSettings
from codec_wire.pipelines import PIPELINES, Scales
from core.settings import Settings, read_settings

_CALIBRATED = [spec.name for spec in PIPELINES.values() if spec.scales is Scales.STATIC]
"""Names of the encoding pipelines that need static scales.

A model without a latent-space map is calibrated only if an encoding pipeline that needs static scales is used.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """The HTTP server `server` or the gRPC server `grpc` that runs the model, or this process if both are None."""

    server: str | None
    grpc: str | None
    api_key: str | None
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    timeout_s: float
    wire_format: WireFormat

    def require_one(self) -> None:
        """Raise InvalidSettings if both `server` and `grpc` are given."""
        if self.server is not None and self.grpc is not None:
            raise InvalidSettings("--server and --grpc cannot be combined")

    def client(self, settings: Settings) -> LatentClient:
        """Return a client for the target. `settings` select the model that runs in this process."""
        options: dict[str, Any] = {"api_key": self.api_key, "timeout_s": self.timeout_s}
        tls: dict[str, Any] = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
        if self.server is not None:
            return HttpClient(self.server, wire_format=self.wire_format, **tls, **options)
        if self.grpc is not None:
            return GrpcClient(self.grpc, **tls, **options)
        return InProcessClient(settings, **options)


def settings_of(flags: Mapping[str, Any], pipeline: str | None) -> Settings:
    """Return the settings of the model in this process.

    `pipeline` is the name of the encoding pipeline of the latents. Raises InvalidSettings if a setting is invalid.
    """
    # Calibration takes much longer than one generation.
    return read_settings(flags if pipeline in _CALIBRATED else {**flags, "calibration_images": 0})
