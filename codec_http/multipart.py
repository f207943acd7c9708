"""Parsing of multipart/form-data bodies, which HTML forms and OpenAI's client send.

aiohttp parses the headers of the parts. The multipart parser of aiohttp is not used for whole bodies. aiohttp's
multipart parser reads one line at a time until the first part begins. A body that begins with 1 MB of line breaks would
take almost a second.
"""

import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pydantic_core
from aiohttp import content_disposition_filename, hdrs, parse_content_disposition
from aiohttp.helpers import parse_mimetype
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import HeadersParser
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam

from codec_http.file_field import MAX_BASE64_CHARACTERS
from codec_http.json_body import MAX_FIELDS, MAX_JSON_BYTES, MAX_NAME_CHARACTERS
from codec_wire.errors import InvalidRequest, TooLarge, truncated_repr
from core.input_image import MAX_IMAGE_BYTES

MULTIPART = "multipart/form-data"
MAX_HEADER_BYTES = 2048
"""Maximum size of the header of a part in bytes."""
_MAX_BOUNDARY_CHARACTERS = 70  # RFC 2046, section 5.1.1
_NAME = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
"""Pattern for the name of a part: NAME, NAME[] for an item of a list, or NAME[KEY] for an entry of an object."""

# aiohttp warns of a malformed Content-Disposition and ignores it. Clients must not be able to write to the log with it.
warnings.filterwarnings("ignore", category=BadContentDispositionHeader)
warnings.filterwarnings("ignore", category=BadContentDispositionParam)


@dataclass(frozen=True, slots=True)
class FormPart:
    """A part of a form. `data` is a file if the part has a filename, otherwise text."""

    name: str
    data: bytes | str


def parse_multipart(content_type: str, body: bytes | bytearray, encoded_files: Collection[str] = ()) -> list[FormPart]:
    """Return the parts of `body` in the order in which `body` contains them.

    `content_type` is the Content-Type with which `body` was received. `encoded_files` contains the names of parts that
    may contain a file as base64 text. A part whose name is in `encoded_files` may have up to MAX_BASE64_CHARACTERS
    characters.

    Raises TooLarge if the text in all parts except base64 files exceeds MAX_JSON_BYTES in total. Raises InvalidRequest
    if `body` is not multipart/form-data, if `body` has more than MAX_FIELDS parts, or if the name of a part is too
    long. Also raises InvalidRequest if a file exceeds MAX_IMAGE_BYTES or if text is not UTF-8.
    """
    parts: list[FormPart] = []
    text_bytes = 0
    for header, data in _split(body, b"--" + _boundary(content_type)):
        if len(parts) == MAX_FIELDS:
            raise InvalidRequest("body", f"must have at most {MAX_FIELDS} parts, got more")
        name, filename = _parse_header(header)
        if filename is None:
            is_file = name in encoded_files and len(data) <= MAX_BASE64_CHARACTERS
            text_bytes += 0 if is_file else len(data)
            if text_bytes > MAX_JSON_BYTES:
                raise TooLarge(f"the text in a form must have at most {MAX_JSON_BYTES} bytes in total")
            parts.append(FormPart(name, _text_of(name, bytes(data))))
        elif len(data) > MAX_IMAGE_BYTES:
            raise InvalidRequest(name, f"must have at most {MAX_IMAGE_BYTES} bytes, got {len(data)}")
        else:
            parts.append(FormPart(name, bytes(data)))
    return parts


def _boundary(content_type: str) -> bytes:
    """Return the parameter `boundary` of `content_type`.

    Raises InvalidRequest if the parameter `boundary` is missing or too long.
    """
    boundary = parse_mimetype(content_type).parameters.get("boundary", "")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY_CHARACTERS:
        raise InvalidRequest(
            "body",
            f"must have a Content-Type with a boundary of 1 to {_MAX_BOUNDARY_CHARACTERS} characters, got "
            f"{truncated_repr(content_type)}",
        )
    return boundary.encode("utf-8", "surrogateescape")


def _split(body: bytes | bytearray, delimiter: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the header and the data of each part of `body` (RFC 2046, section 5.1.1).

    `delimiter` is two hyphens and the boundary. Every search in `body` is a search for a fixed string, and takes linear
    time.
    """
    separator = b"\r\n" + delimiter
    at = 0
    if not body.startswith(delimiter):
        found = body.find(separator)
        if found < 0:
            raise InvalidRequest("body", f"must be {MULTIPART} and contain the boundary from its Content-Type")
        at = found + len(b"\r\n")
    view = memoryview(body)
    while not body.startswith(b"--", at := at + len(delimiter)):
        end_of_header = body.find(b"\r\n\r\n", at, at + MAX_HEADER_BYTES)
        if end_of_header < 0:
            raise InvalidRequest(
                "body", f"must have parts whose headers are complete and have at most {MAX_HEADER_BYTES} bytes"
            )
        found = body.find(separator, end_of_header + len(b"\r\n"))
        if found < 0:
            raise InvalidRequest("body", "must end with the boundary of its Content-Type and two hyphens")
        yield bytes(view[at:end_of_header]), view[end_of_header + len(b"\r\n\r\n") : found]
        at = found + len(b"\r\n")


def _parse_header(header: bytes) -> tuple[str, str | None]:
    """Return the name and the filename in the header of a part. A part without a file has the filename None.

    `header` begins with the rest of the line that contains the delimiter. Raises InvalidRequest if the header is not
    valid.
    """
    rest, *lines = header.split(b"\r\n")
    try:
        headers, _ = HeadersParser().parse_headers([*lines, b""])
    except BadHttpMessage as error:
        raise InvalidRequest("body", f"must have parts with valid headers: {truncated_repr(str(error))}") from None
    if rest.strip(b" \t"):
        raise InvalidRequest("body", f"must have a line break after each boundary, got {truncated_repr(rest)}")
    if headers.get(hdrs.CONTENT_TYPE, "").lower().startswith("multipart/"):
        raise InvalidRequest("body", "must not contain a multipart body in a part")
    _, parameters = parse_content_disposition(headers.get(hdrs.CONTENT_DISPOSITION))
    name = content_disposition_filename(parameters, "name")
    if not name or len(name) > MAX_NAME_CHARACTERS:
        received = f"the name {truncated_repr(name)}" if name else "a part without a name"
        raise InvalidRequest(
            "body", f"must have parts with names of 1 to {MAX_NAME_CHARACTERS} characters, got {received}"
        )
    encoding = headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "binary")
    if encoding.lower() not in ("binary", "8bit", "7bit"):
        raise InvalidRequest(name, f"Content-Transfer-Encoding must be binary, got {truncated_repr(encoding)}")
    return name, content_disposition_filename(parameters)


def form_fields(parts: Iterable[FormPart], text_fields: Collection[str]) -> dict[str, Any]:
    """Return a dictionary of the form's values, with the structure of a parsed JSON body and with files as bytes.

    A form contains all values other than files as text. Text that is valid JSON, such as a number, a boolean or null,
    is parsed, except in the fields `text_fields`. Parts with the name NAME[], and several parts with an equal name,
    become a list. Parts with the name NAME[KEY] become an object. Raises InvalidRequest if a name is malformed, if the
    same NAME[KEY] occurs twice, or if an object and another value have the same NAME.
    """
    fields: dict[str, Any] = {}
    for part in parts:
        match = _NAME.fullmatch(part.name)
        if match is None:
            raise InvalidRequest(
                "body", f"must have parts named NAME, NAME[] or NAME[KEY], got {truncated_repr(part.name)}"
            )
        name, key = match[1], match[2]
        value = part.data if isinstance(part.data, bytes) or name in text_fields else _parsed(part.data)
        if key is None and name not in fields:
            fields[name] = value
            continue
        found = fields.setdefault(name, {} if key else [])
        if key and isinstance(found, dict) and key not in found:
            found[key] = value
        elif not key and not isinstance(found, dict):
            fields[name] = [*(found if isinstance(found, list) else [found]), value]
        else:
            raise InvalidRequest(name, f"must not be sent twice, got a second part named {truncated_repr(part.name)}")
    return fields


def _parsed(text: str) -> Any:
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return text


def _text_of(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            name, f"must be UTF-8 text or a file with a filename, got {truncated_repr(data)}"
        ) from None
