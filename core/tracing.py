"""Interface of a tracer of requests, and configuration of the tracer by the environment variables of OpenTelemetry.

OpenTelemetry is imported only if traces are exported.
"""

import os
from collections.abc import Mapping
from typing import Protocol

from codec_wire.errors import InvalidSettings, truncated_repr
from core.request_record import RequestRecord

EXPORTER, PROTOCOL = "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTERS = ("otlp", "console", "none")
OTLP_PROTOCOL = "http/protobuf"


class Tracer(Protocol):
    """Interface of a tracer that exports spans.

    A request that runs a model has one span, and each part of the request has another span.
    """

    def start(self, record: RequestRecord) -> None:
        """Start the span of a request as a child of the span in `record.traceparent`.

        The method sets `record.traceparent` to the trace context of the new span.
        """

    def end(self, record: RequestRecord) -> None:
        """End the span of a request."""

    async def stop(self) -> None:
        """Export the remaining spans and stop the exporter."""


def configured_exporter(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the exporter that the OpenTelemetry variables select, or None if traces are not exported.

    The exporter is "otlp" or "console".

    If OTEL_TRACES_EXPORTER is not set, an endpoint for OTLP selects the exporter "otlp". If neither
    OTEL_TRACES_EXPORTER nor an endpoint for OTLP is set, the result is None. Raises InvalidSettings if the value of a
    variable is not supported.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    has_endpoint = any(environment.get(name) for name in ENDPOINTS)
    exporter = environment.get(EXPORTER) or ("otlp" if has_endpoint else "none")
    if exporter not in EXPORTERS:
        raise InvalidSettings(f"{EXPORTER} must be one of {', '.join(EXPORTERS)}, got {truncated_repr(exporter)}")
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(PROTOCOL) or OTLP_PROTOCOL
    if exporter == "otlp" and protocol != OTLP_PROTOCOL:
        raise InvalidSettings(f"{PROTOCOL} must be {OTLP_PROTOCOL}, got {truncated_repr(protocol)}")
    return None if exporter == "none" else exporter


def configured_tracer() -> Tracer | None:
    """Return the tracer that the OpenTelemetry variables configure, or None if traces are not exported.

    Raises InvalidSettings if the value of a variable is not supported or the extra `otel` is not installed.
    """
    exporter = configured_exporter()
    if exporter is None:
        return None
    try:
        from core.otel_tracer import OtelTracer  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"exporting traces needs {error.name}, which is not installed. Run pip install 'codec-diffusers[otel]', or "
            f"set {EXPORTER}=none"
        ) from None
    return OtelTracer(exporter)
