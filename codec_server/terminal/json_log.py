"""Formatting of log messages as JSON objects."""

import json
import logging
from datetime import UTC, datetime

from core.request_line import RequestLine
from core.request_record import find_current_record


class JsonFormatter(logging.Formatter):
    """Formatter that formats every log message as one JSON object in one line.

    All objects have the keys `time`, `level`, `logger` and `message`. If a message is logged while a request is
    handled, the object also has the key `request_id`. The message at the end of a request has all fields of the
    request's RequestRecord.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object for `record` in one line."""
        values: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        request = find_current_record()
        if isinstance(record.msg, RequestLine):
            values["message"] = "request"
            values |= record.msg.fields()
        else:
            values["message"] = record.getMessage()
            if request is not None:
                values["request_id"] = request.request_id
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values)
