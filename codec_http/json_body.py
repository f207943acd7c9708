"""Parsing of the JSON object in a request body.

The size of the JSON object is limited, so that the parsing time is also limited.
"""

import codecs
import re
from collections.abc import Mapping
from typing import Any

import pydantic_core

from codec_wire.errors import InvalidRequest, TooLarge, truncated_repr

MAX_JSON_BYTES = 256 * 1024
"""Maximum size of the JSON text in bytes, without the values of file fields. Two prompts of 8192 characters need up to
192 KiB, because a character can be written as two \\u escapes."""
MAX_FIELDS = 64
"""Maximum number of fields in the JSON object."""
MAX_NAME_CHARACTERS = 64
"""Maximum length of the name of a field."""

_URL = "image_url"
"""Key of the data URL in a JSON object that contains a file, as in OpenAI's API."""
_FILE_START = re.compile(rb'"(image|control_image|mask|latents|input_reference|image_url)"\s*:\s*"')
"""Pattern that matches the name of a file field and the start of its value.

The pattern cannot match inside a JSON string, because every quote in a JSON string follows a backslash.
"""


def parse_json_object(data: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object in `data`, which is UTF-8 and may begin with a byte-order mark.

    Raises TooLarge if the JSON text, without the values of file fields, exceeds MAX_JSON_BYTES. Raises InvalidRequest
    if `data` is not a JSON object. Also raises InvalidRequest if the object has too many fields or a field name is too
    long.
    """
    files: dict[str, str] = {}
    urls: dict[str, str] = {}
    text = bytes(data) if len(data) <= MAX_JSON_BYTES else _without_files(data, files, urls)
    body = _parse(text.removeprefix(codecs.BOM_UTF8))
    if not isinstance(body, dict):
        raise InvalidRequest("body", f"must be a JSON object, got {truncated_repr(body)}")
    if len(body) > MAX_FIELDS:
        raise InvalidRequest("body", f"must have at most {MAX_FIELDS} fields, got {len(body)}")
    for name in body:
        if len(name) > MAX_NAME_CHARACTERS:
            raise InvalidRequest(
                "body", f"must have field names of at most {MAX_NAME_CHARACTERS} characters, got {truncated_repr(name)}"
            )
    if urls:
        body = {name: _with_urls(value, urls) for name, value in body.items()}
    return body | {name: text for name, text in files.items() if name in body and body[name] is None}


def _with_urls(value: Any, urls: Mapping[str, str]) -> Any:
    """Return `value` with the original URLs in the fields `image_url`.

    If the text in a field `image_url` is a key of `urls`, the text is replaced with the URL that `urls` contains under
    this key. If `value` is neither an object nor a list of objects, `value` is returned unchanged.
    """
    if isinstance(value, list):
        return [_with_urls(item, urls) if isinstance(item, dict) else item for item in value]
    if isinstance(value, dict) and isinstance(value.get(_URL), str):
        return value | {_URL: urls.get(value[_URL], value[_URL])}
    return value


def _without_files(data: bytes | bytearray, files: dict[str, str], urls: dict[str, str]) -> bytes:
    """Return `data` without the values of file fields.

    The values of file fields are moved to `files` and replaced with null. The field `image_url` may occur several
    times. Each value of `image_url` is moved to the dictionary `urls` and replaced with the key of the value in `urls`.
    """
    text = bytearray()
    at = 0
    while len(data) - at > (room := MAX_JSON_BYTES - len(text)):
        start = _FILE_START.search(data, at, at + room)
        if start is None:
            raise TooLarge(
                f"the request body must have at most {MAX_JSON_BYTES} bytes, not counting its images and latents"
            )
        name = start[1].decode()
        end = data.find(b'"', start.end())
        if end < 0 or data[end - 1 : end] == b"\\":
            raise InvalidRequest(
                name, "must be a JSON string of valid base64, got a string that contains a backslash or does not end"
            )
        value, replacement = _parse(data[start.end() - 1 : end + 1]), b"null"
        if name == _URL:
            key = f"file {len(urls)}"
            urls[key], replacement = value, f'"{key}"'.encode()
        else:
            files[name] = value
        text += data[at : start.end() - 1] + replacement
        at = end + 1
    return bytes(text + data[at:])


def _parse(text: bytes | bytearray) -> Any:
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(
            "body", f"must be a JSON object, got {truncated_repr(bytes(text[:100]))}: {error}"
        ) from None
