"""Pictures in a JSON body: base64, as it is or in a data URL."""

import base64
import binascii
import re

from codec_wire.errors import InvalidRequest, truncated_repr
from core.input_image import MAX_IMAGE_BYTES

PICTURE_FIELDS = ("image", "control_image")
MAX_TEXT = 4 * ((MAX_IMAGE_BYTES + 2) // 3) + 128
"""Characters of the largest picture as base64, with a data URL's beginning."""

_DATA_URL = re.compile(r"data:[\w.+/-]{0,64};base64,", re.ASCII | re.IGNORECASE)
_SPACES = str.maketrans("", "", " \r\n\t")


def picture_bytes(field: str, value: object) -> bytes:
    """Return the file that `value` holds. Raises InvalidRequest naming `field`: none there, or too large a one."""
    if not isinstance(value, str):
        raise InvalidRequest(field, f"must be a picture as base64 or a data URL, got {truncated_repr(value)}")
    if len(value) > MAX_TEXT:
        raise InvalidRequest(field, f"must have at most {MAX_IMAGE_BYTES} bytes, got about {len(value) * 3 // 4}")
    start = _DATA_URL.match(value)
    if start is None and value[:5].lower() == "data:":
        raise InvalidRequest(field, f"must be a data URL in base64, got {truncated_repr(value)}")
    text = value[start.end() if start else 0 :]
    if not text.isascii():
        raise InvalidRequest(field, f"is no base64, got {truncated_repr(value)}")
    try:
        # Encoders break long lines.
        return base64.b64decode(
            text if " " not in text and "\n" not in text else text.translate(_SPACES), validate=True
        )
    except binascii.Error:
        raise InvalidRequest(field, f"is no base64, got {truncated_repr(value)}") from None
