"""An entry of the route table."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web
from pydantic import BaseModel

from codec_wire.errors import CodecError

JSON, TEXT = "application/json", "text/plain"

Content: TypeAlias = Mapping[str, type[BaseModel] | None]
"""Model of a response body by media type; None if the body is not JSON."""


@dataclass(frozen=True, slots=True)
class Route:
    """An operation: one HTTP method on one path, which is in aiohttp's syntax.

    `bodies` are the models of a JSON request body, any of which it may match, `files` the media types of a binary
    request body, `query` the descriptions of the query parameters. `responses` are the contents of the responses
    by status, `headers` the descriptions of the headers of the 200 response, `errors` the classes that may be raised.
    """

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    tag: str
    summary: str
    description: str
    responses: Mapping[int, Content]
    bodies: tuple[type[BaseModel], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[type[CodecError], ...] = ()
    files: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
