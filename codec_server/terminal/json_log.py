"""Log lines as JSON objects."""

import json
import logging
from datetime import UTC, datetime

from core.request_line import RequestLine
from core.request_record import find_current_record


class JsonFormatter(logging.Formatter):
    """Formats every log message as one JSON object in one line.

    All objects have time, level, logger and message. Lines that are logged on behalf of a request have its request_id.
    The line at the end of a request has all fields of its record.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
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
