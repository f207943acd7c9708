"""Decoding of images and latents that a JSON body contains as base64 text or base64 data URLs."""

import base64
import re

from codec_wire.errors import InvalidRequest, truncated_repr
from core.input_image import MAX_IMAGE_BYTES

FILE_FIELDS = ("image", "control_image", "mask", "latents")
MAX_FILES = 2
"""Maximum number of files in one request if each file has the maximum size.

A request may contain one of the files `image` and `latents`, and also one of the files `control_image` and `mask`.
"""
MAX_BASE64_CHARACTERS = 4 * ((MAX_IMAGE_BYTES + 2) // 3) + 1024
"""Maximum length of a file field in characters.

A field of this length can contain the largest file in base64 and the prefix of a data URL.
"""

_DATA_URL = re.compile(r"data:[\w.+/-]{0,64}(;[\w.+-]{1,64}=[\w.+%-]{0,64}){0,4};base64,", re.ASCII | re.IGNORECASE)
"""Prefix of a data URL (RFC 2397). The media type can have parameters, such as ";name=a.png"."""
_PIECE_CHARACTERS = 2**18
"""Number of base64 characters that are decoded at once.

The number must be a multiple of 4. Decoding this number of characters takes about a millisecond.
"""
_WHITESPACE = str.maketrans("", "", " \r\n\t")


def decode_file_field(field: str, value: object) -> bytes:
    """Return the file that `value` encodes. The content of the file is not checked.

    A file from a form is returned unchanged, because the size of the file was checked when the form was parsed. Raises
    InvalidRequest with the field name `field` if `value` is not base64 text or is too long.
    """
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidRequest(field, f"must be a base64 string or a base64 data URL, got {truncated_repr(value)}")
    if len(value) > MAX_BASE64_CHARACTERS:
        raise InvalidRequest(
            field, f"must be a file of at most {MAX_IMAGE_BYTES} bytes, got about {len(value) * 3 // 4} bytes"
        )
    prefix = _DATA_URL.match(value)
    if prefix is None and value[:5].lower() == "data:":
        raise InvalidRequest(field, f"must start with data:<media type>;base64, got {truncated_repr(value)}")
    text = value[prefix.end() if prefix else 0 :]
    # Some encoders insert line breaks. translate() copies the text, so it is not called for text without whitespace.
    if " " in text or "\n" in text:
        text = text.translate(_WHITESPACE)
    try:
        return _decode_base64(text)
    except ValueError:
        raise InvalidRequest(field, f"must be valid base64, got {truncated_repr(value)}") from None


def _decode_base64(text: str) -> bytes:
    """Decode `text` in pieces, so that other threads can run between two pieces.

    Raises ValueError if `text` is not base64.
    """
    padding = text.find("=")
    if 0 <= padding < len(text) - 2:
        raise ValueError("'=' is only allowed at the end of base64")
    pieces = (text[start : start + _PIECE_CHARACTERS] for start in range(0, len(text), _PIECE_CHARACTERS))
    return b"".join([base64.b64decode(piece, validate=True) for piece in pieces])
