"""Export of traces with OpenTelemetry. Import this module only if traces are exported (core.tracing)."""

import asyncio
import os

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from codec_wire.trace_context import TRACEPARENT_HEADER
from codec_wire.version import SERVER_VERSION
from core.request_record import OK, RequestRecord

_NAME = "codec-diffusers"
_ATTRIBUTES = (
    "protocol",
    "operation",
    "request_id",
    "key_name",
    "model",
    "modality",
    "pipeline",
    "coding",
    "outcome",
    "steps",
    "frames",
    "bytes_out",
)
"""Names of the RequestRecord attributes that are added to the span of a request, with the prefix "codec.".

Attributes with the value None, the value 0 or an empty string are left out.
"""


class OtelTracer:
    """Tracer that exports the spans of requests with OpenTelemetry.

    The OpenTelemetry SDK reads the sampler, limits, endpoint, headers and resource from environment variables. Each
    request that runs a model has a span. The name of the span is the operation of the request. The parts of a request
    have the spans plan, queue, sample, encode and stream. The tracer creates the spans of the parts when the request
    ends, so that the tracer does not slow the request down. The times of the spans are read from the record of the
    request.
    """

    def __init__(self, exporter: str) -> None:
        """Configure the OpenTelemetry SDK for the exporter `exporter`.

        `exporter` is "otlp" or "console". The exporter "console" writes JSON to standard output.
        """
        is_named = "OTEL_SERVICE_NAME" in os.environ or SERVICE_NAME in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        attributes = {SERVICE_VERSION: SERVER_VERSION} | ({} if is_named else {SERVICE_NAME: _NAME})
        self._provider = TracerProvider(resource=Resource.create(attributes))
        self._provider.add_span_processor(BatchSpanProcessor(_span_exporter(exporter)))
        self._tracer = self._provider.get_tracer(_NAME, SERVER_VERSION)
        self._propagator = TraceContextTextMapPropagator()
        self._contexts: dict[RequestRecord, Context] = {}

    def start(self, record: RequestRecord) -> None:
        """Start the span of a request that runs a model. See core.tracing.Tracer."""
        if record.operation is None:
            return
        carrier = {} if record.traceparent is None else {TRACEPARENT_HEADER: record.traceparent}
        parent = self._propagator.extract(carrier, Context())
        span = self._tracer.start_span(record.operation, parent, SpanKind.SERVER, start_time=record.started_ns)
        context = set_span_in_context(span, Context())
        self._propagator.inject(carrier, context)
        record.traceparent = carrier[TRACEPARENT_HEADER]
        self._contexts[record] = context

    def end(self, record: RequestRecord) -> None:
        """End the span of a request and add one span for each part of the request. See core.tracing.Tracer."""
        context = self._contexts.pop(record, None)
        if context is None or record.ended_at is None:
            return
        span = get_current_span(context)
        if span.is_recording():
            self._describe(span, record)
            for name, start, end in _parts(record):
                part = self._tracer.start_span(name, context, start_time=_nanoseconds(record, start))
                part.end(_nanoseconds(record, max(start, end)))
        span.end(_nanoseconds(record, record.ended_at))

    async def stop(self) -> None:
        """Export the remaining spans and stop the exporter."""
        await asyncio.to_thread(self._provider.shutdown)

    @staticmethod
    def _describe(span: Span, record: RequestRecord) -> None:
        if record.operation is not None:
            span.update_name(record.operation)  # it may have become more precise
        for name in _ATTRIBUTES:
            if value := getattr(record, name):
                span.set_attribute(f"codec.{name}", value)
        if record.outcome != OK:
            span.set_status(Status(StatusCode.ERROR, record.error))


def _parts(record: RequestRecord) -> list[tuple[str, float, float]]:
    """Return (name, start, end) of each part of a request. Parts whose times are not in `record` are left out."""
    parts, ended_at = [], record.ended_at or record.started_at
    if record.planned_at is not None:
        parts.append(("plan", record.started_at, record.planned_at))
    if record.admitted_at is not None:
        parts.append(("queue", record.admitted_at, record.sampling_at or ended_at))
    if record.sampling_at is not None and record.sampling_s:
        sampled_at = record.sampling_at + record.sampling_s
        parts.append(("sample", record.sampling_at, sampled_at))
        if record.encode_s:
            parts.append(("encode", sampled_at, sampled_at + record.encode_s))
    if record.header_at is not None:
        parts.append(("stream", record.header_at, ended_at))
    return parts


def _nanoseconds(record: RequestRecord, time: float) -> int:
    return record.started_ns + round((time - record.started_at) * 1e9)


def _span_exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")
    return OTLPSpanExporter()
