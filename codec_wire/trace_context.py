"""W3C trace context: the ids of a trace and of the span that sends a request."""

import sys
from re import compile as compile_pattern

TRACEPARENT_HEADER = "traceparent"
"""HTTP header and gRPC metadata key."""
_TRACEPARENT = compile_pattern(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def parse_traceparent(value: object) -> str | None:
    """Return `value` if it is a valid traceparent of version 00; otherwise None, so that a new trace begins."""
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None


def current_traceparent() -> str | None:
    """Return the traceparent of the current span of OpenTelemetry; None if the program does not use OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
