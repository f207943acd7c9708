"""W3C trace context, which consists of the id of a trace and the id of the span that sends a request."""

import sys
from re import compile as compile_pattern

TRACEPARENT_HEADER = "traceparent"
"""Name of the HTTP header, and of the gRPC metadata key, that contains the trace context."""
_TRACEPARENT = compile_pattern(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def parse_traceparent(value: object) -> str | None:
    """Return `value` if `value` is a valid traceparent of version 00. Otherwise, return None."""
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None


def current_traceparent() -> str | None:
    """Return the traceparent of the current OpenTelemetry span, or None if the program has no valid span."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
