"""The log line that is written at the end of a request."""

from dataclasses import dataclass

from codec_wire.errors import truncated_repr
from core.request_record import RequestRecord

MAX_ERROR_CHARACTERS = 300
_REQUIRED_FIELDS = ("protocol", "target", "status", "outcome")
_OPTIONAL_FIELDS = (
    ("request_id", "request_id"),
    ("key", "key_name"),
    ("operation", "operation"),
    ("model", "model"),
    ("modality", "modality"),
    ("pipeline", "pipeline"),
    ("coding", "coding"),
    ("steps", "steps"),
    ("frames", "frames"),
    ("bytes", "bytes_out"),
)
"""Pairs of a field of the log line and the RequestRecord attribute that contains the value.

A field with an empty value or the value 0 is omitted.
"""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """The message of a log record for a request that has ended.

    The message is formatted only if the log record is written.
    """

    record: RequestRecord

    def fields(self) -> dict[str, str | int | float]:
        """Return the fields of the log line in the order in which the line contains the fields.

        Fields without a value are omitted.
        """
        record = self.record
        fields: dict[str, str | int | float] = {name: getattr(record, name) for name in _REQUIRED_FIELDS}
        for name, attribute in _OPTIONAL_FIELDS:
            if value := getattr(record, attribute):
                fields[name] = value
        fields |= {name: round(seconds, 4) for name, seconds in self._durations()}
        if record.error:
            fields["error"] = record.error[:MAX_ERROR_CHARACTERS]
        return fields

    def __str__(self) -> str:
        """Return the log line.

        The log line begins with the protocol, target, status and outcome. The other fields follow in the form
        NAME=VALUE.

        This method runs for every request. Formatting the log line from the result of `fields` would take twice as
        long.
        """
        record = self.record
        parts = [record.protocol, record.target, record.status, record.outcome]
        for name, attribute in _OPTIONAL_FIELDS:
            if value := getattr(record, attribute):
                parts.append(f"{name}={value}")
        parts += [f"{name}={seconds:.4f}" for name, seconds in self._durations()]
        if record.error:
            parts.append(f"error={truncated_repr(record.error, MAX_ERROR_CHARACTERS)}")
        return " ".join(parts)

    def _durations(self) -> list[tuple[str, float]]:
        """Return (name, duration in seconds) of each part of the request.

        Parts with an unknown duration are left out.
        """
        record = self.record
        start, durations = record.started_at, []
        if (queue_s := record.queue_s) is not None:
            durations.append(("queue_s", queue_s))
        if record.header_at is not None:
            durations.append(("header_s", record.header_at - start))
        if record.first_frame_at is not None:
            durations.append(("first_frame_s", record.first_frame_at - start))
        if record.sampling_s:
            durations.append(("sampling_s", record.sampling_s))
        if record.encode_s:
            durations.append(("encode_s", record.encode_s))
        if record.ended_at is not None:
            durations.append(("total_s", record.ended_at - start))
        return durations
