"""Definition of an entry of the route table."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web
from pydantic import BaseModel

from codec_wire import errors
from codec_wire.errors import CodecError
from codec_wire.http import (
    CODEC_HEALTH_PATH,
    HEALTH_PATH,
    INFO_PATH,
    LIVENESS_PATH,
    READINESS_PATH,
    SCHEMA_PATH,
    WELL_KNOWN_PATH,
)

JSON, TEXT = "application/json", "text/plain"

Content: TypeAlias = Mapping[str, type[BaseModel] | None]
"""Dictionary of the pydantic models of a response body by media type.

For a media type other than JSON, the pydantic model is None.
"""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

JOB_ERRORS = (
    errors.InvalidRequest,
    errors.NotFound,
    errors.NotAcceptable,
    errors.MapMismatch,
    errors.TooLarge,
    errors.UnsupportedCoding,
    errors.RequestTimeout,
    errors.UnsupportedModality,
    errors.Overloaded,
    errors.CodecError,
    errors.NotReady,
    errors.OutOfMemory,
    errors.OutOfStorage,
    errors.DeadlineExceeded,
)
"""Errors of every endpoint that runs a job on a model."""

OPENAPI_PATH, DOCS_PATH = "/openapi.json", "/docs"
PAGE_PATH, PAGE_FILES_PATH = "/", "/page"
_PUBLIC_PATHS = frozenset(
    {
        LIVENESS_PATH,
        READINESS_PATH,
        HEALTH_PATH,
        CODEC_HEALTH_PATH,
        INFO_PATH,
        SCHEMA_PATH,
        OPENAPI_PATH,
        DOCS_PATH,
        PAGE_PATH,
    }
)


def is_public(path: str) -> bool:
    """Return whether requests for `path` need no API key.

    All requests need an API key, except requests for probes, for discovery and for the web page. Discovery needs no API
    key, because clients use discovery before they know which API key to send.
    """
    return path in _PUBLIC_PATHS or path.startswith((f"{WELL_KNOWN_PATH}/", f"{PAGE_FILES_PATH}/"))


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of the HTTP API, i.e. one HTTP method on one path. The path is written in aiohttp's syntax.

    A JSON request body matches one of the models in `bodies`. A binary request body has one of the media types `files`.
    `query` describes the query parameters. `responses` is a dictionary that describes the contents of the responses by
    HTTP status. `headers` describes the headers of a response with status 200. `errors` contains the classes of the
    errors that the handler may raise. If `accepts_form` is set, the fields of a JSON body can also be sent as
    multipart/form-data.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    description: str
    responses: Mapping[int, Content]
    bodies: tuple[type[BaseModel], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[type[CodecError], ...] = ()
    files: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    accepts_form: bool = False

    @property
    def is_public(self) -> bool:
        """Whether the route requires no API key."""
        return is_public(self.path)
