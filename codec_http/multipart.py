"""Parsing of multipart/form-data bodies with aiohttp's parser.

HTML forms and OpenAI's client send multipart/form-data bodies.
"""

import asyncio
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic_core
from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam

from codec_http.file_field import MAX_BASE64_CHARACTERS
from codec_http.json_body import MAX_FIELDS, MAX_JSON_BYTES, MAX_NAME_CHARACTERS
from codec_wire.errors import InvalidRequest, TooLarge, truncated_repr
from core.input_image import MAX_IMAGE_BYTES

MULTIPART = "multipart/form-data"
_PIECE_BYTES = 64 * 1024
"""Size in bytes of the pieces in which a body is passed to the parser.

The size is limited because the parser copies the rest of a piece at every boundary.
"""
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


async def parse_multipart(
    headers: Mapping[str, str], body: bytes | bytearray, encoded_files: Collection[str] = ()
) -> list[FormPart]:
    """Return the parts of `body` in the order in which `body` contains them.

    `headers` are the headers of the request from which `body` was received. `encoded_files` contains the names of parts
    that may contain a file as base64 text. Each part in `encoded_files` may have up to MAX_BASE64_CHARACTERS
    characters.

    Raises TooLarge if the text in all parts except base64 files exceeds MAX_JSON_BYTES in total. Raises InvalidRequest
    if `body` is not multipart/form-data, if `body` has more than MAX_FIELDS parts, or if the name of a part is too
    long. Also raises InvalidRequest if a file exceeds MAX_IMAGE_BYTES or if text is not UTF-8.
    """
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), len(body) + 1, loop=loop)
    for start in range(0, len(body), _PIECE_BYTES):
        content.feed_data(bytes(body[start : start + _PIECE_BYTES]))
    content.feed_eof()
    parts: list[FormPart] = []
    text_bytes = 0
    try:
        reader = MultipartReader(headers, content)
        while (part := await reader.next()) is not None:
            if len(parts) == MAX_FIELDS:
                raise InvalidRequest("body", f"must have at most {MAX_FIELDS} parts, got more")
            if not isinstance(part, BodyPartReader):
                raise InvalidRequest("body", "must not contain a multipart body in a part")
            name = _name_of(part)
            data = bytes(await part.read())
            if part.filename is None:
                is_file = name in encoded_files and len(data) <= MAX_BASE64_CHARACTERS
                text_bytes += 0 if is_file else len(data)
                if text_bytes > MAX_JSON_BYTES:
                    raise TooLarge(f"the text in a form must have at most {MAX_JSON_BYTES} bytes in total")
                parts.append(FormPart(name, _text_of(name, data)))
            elif len(data) > MAX_IMAGE_BYTES:
                raise InvalidRequest(name, f"must have at most {MAX_IMAGE_BYTES} bytes, got {len(data)}")
            else:
                parts.append(FormPart(name, data))
    except (ValueError, RuntimeError, AssertionError, BadHttpMessage) as error:  # of aiohttp's parser
        raise InvalidRequest("body", f"must be valid {MULTIPART}: {truncated_repr(str(error))}") from None
    return parts


def form_fields(parts: Iterable[FormPart], text_fields: Collection[str]) -> dict[str, Any]:
    """Return the fields of a form as a JSON body would contain them, with files as bytes.

    The fields of a form have no types. Text that is valid JSON, such as a number, a boolean or null, is parsed, except
    in the fields `text_fields`. Parts with the name NAME[], and several parts with an equal name, become a list. Parts
    with the name NAME[KEY] become an object. Raises InvalidRequest if a name is malformed, if the same NAME[KEY] occurs
    twice, or if an object and another value have the same NAME.
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


def _name_of(part: BodyPartReader) -> str:
    name = part.name
    if not name or len(name) > MAX_NAME_CHARACTERS:
        raise InvalidRequest(
            "body", f"must have parts with names of 1 to {MAX_NAME_CHARACTERS} characters, got {truncated_repr(name)}"
        )
    encoding = part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "binary")
    if encoding.lower() not in ("binary", "8bit", "7bit"):
        raise InvalidRequest(name, f"Content-Transfer-Encoding must be binary, got {truncated_repr(encoding)}")
    return name


def _text_of(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            name, f"must be UTF-8 text, or a file with a filename, got {truncated_repr(data)}"
        ) from None
