"""Generation of the OpenAPI document from the route table and from the pydantic models in the route table."""

import re
from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp import hdrs
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from codec_http.multipart import MULTIPART
from codec_http.response_models import ErrorResponse
from codec_wire.errors import CodecError, Forbidden, RetryableError, Unauthenticated
from codec_wire.http import REQUEST_HEADERS, error_status
from codec_wire.version import SERVER_VERSION

if TYPE_CHECKING:  # routes.py imports the handler that serves this document
    from codec_http.route import Content, Route

Json: TypeAlias = dict[str, Any]

_SECURITY_SCHEME = "apiKey"
_REF_TEMPLATE = "#/components/schemas/{model}"
_PATH_PARAMETERS = {
    "name": "Name or alias of a model.",
    "id": "Id of a latent space.",
    "hex": "sha256 of the file in hexadecimal.",
    "file": "Name of a file of the page.",
    "video_id": "Id of a video.",
}
_PATH_PARAMETER = re.compile(r"{(\w+)(?::[^}]*)?}")


def openapi_document(routes: Iterable["Route"]) -> Json:
    """Return the OpenAPI 3.1 document of `routes`."""
    routes = tuple(routes)
    paths: dict[str, Json] = defaultdict(dict)
    for route in routes:
        paths[_PATH_PARAMETER.sub(r"{\1}", route.path)][route.method.lower()] = _operation(route)
    tags = dict.fromkeys(route.tag for route in routes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "codec-diffusers",
            "version": SERVER_VERSION,
            "summary": "Runs diffusers pipelines and streams the latents, or returns rendered images and videos.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in tags],
        "paths": dict(paths),
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                _SECURITY_SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, if the server is configured to require one.",
                }
            },
        },
    }


def _operation(route: "Route") -> Json:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in _PATH_PARAMETER.findall(route.path)
    ]
    operation: Json = {
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "summary": route.summary,
        "description": route.description,
    }
    parameters += [
        {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}
        for name, description in route.query.items()
    ]
    if route.bodies:
        parameters += [
            {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
            for name, description in REQUEST_HEADERS.items()
        ]
        schema = {"oneOf": [_reference(body) for body in route.bodies]}
        media_types = ("application/json", *((MULTIPART,) if route.accepts_form else ()))
        operation["requestBody"] = {"required": True, "content": {name: {"schema": schema} for name in media_types}}
    if route.files:
        operation["requestBody"] = {"required": True, "content": {name: {} for name in route.files}}
    if parameters:
        operation["parameters"] = parameters
    if not route.is_public:
        operation["security"] = [{}, {_SECURITY_SCHEME: []}]
    operation["responses"] = _responses(route)
    return operation


def _operation_id(route: "Route") -> str:
    return "_".join([route.method.lower(), *re.findall(r"\w+", _PATH_PARAMETER.sub(r"\1", route.path))])


def _responses(route: "Route") -> Json:
    responses: Json = {}
    for status, content in route.responses.items():
        response = responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": _content(content)}
        if status == HTTPStatus.OK and route.headers:
            response["headers"] = {name: _header(description) for name, description in route.headers.items()}
    by_status: dict[int, list[type[CodecError]]] = defaultdict(list)
    for error in (*route.errors, Forbidden, *(() if route.is_public else (Unauthenticated,))):
        by_status[error_status(error)].append(error)
    for status, classes in sorted(by_status.items()):
        responses[str(status)] = _error_response(classes)
    return responses


def _error_response(classes: list[type[CodecError]]) -> Json:
    """Return the OpenAPI response object for the error classes `classes`, which have the same HTTP status.

    The description of the response consists of the docstrings of the classes.
    """
    response: Json = {
        "description": " Or: ".join(_description(cls) for cls in classes),
        "content": _content({"application/json": ErrorResponse}),
    }
    if any(issubclass(cls, RetryableError) for cls in classes):
        response["headers"] = {hdrs.RETRY_AFTER: _header("Seconds to wait before the request is sent again.")}
    return response


def _description(cls: type[CodecError]) -> str:
    if cls is CodecError:
        return "Internal error. The server's log contains the reason."
    reason = (cls.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".").removeprefix("Raised when ")
    return f"{reason[:1].upper()}{reason[1:]}."


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _content(content: "Content") -> Json:
    return {media_type: {} if model is None else {"schema": _reference(model)} for media_type, model in content.items()}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": _REF_TEMPLATE.format(model=model.__name__)}


def _schemas(routes: Iterable["Route"]) -> Json:
    """Return a dictionary of the JSON schemas of pydantic models by name.

    The dictionary contains all pydantic models in `routes` and all models that are nested in another model of the
    dictionary.
    """
    bodies = {body for route in routes for body in route.bodies}
    responses = {
        model
        for route in routes
        for content in route.responses.values()
        for model in content.values()
        if model is not None
    } | {ErrorResponse}
    _, schema = models_json_schema(
        [
            *((body, "validation") for body in sorted(bodies, key=lambda model: model.__name__)),
            *((response, "serialization") for response in sorted(responses, key=lambda model: model.__name__)),
        ],
        ref_template=_REF_TEMPLATE,
    )
    schemas: Json = schema["$defs"]
    for definition in schemas.values():
        _simplify(definition)
    for body in bodies:
        _allow_null(schemas[body.__name__])
    return schemas


def _allow_null(body: Json) -> None:
    """Allow null as the value of every optional field of `body`, the schema of a request body.

    The server ignores fields whose value is null. Schemas of fields that already allow null are not changed.
    """
    for name, field in body["properties"].items():
        types = field.get("type")
        if name in body.get("required", ()) or {"type": "null"} in field.get("anyOf", ()) or "null" in (types or ()):
            continue
        text = {key: field.pop(key) for key in ("description", "default") if key in field}
        body["properties"][name] = {"anyOf": [field, {"type": "null"}], **text}


def _simplify(definition: Json) -> None:
    """Remove redundant titles and null defaults from `definition`, a JSON schema that pydantic has generated.

    All titles are removed, because each title repeats a name. Null defaults of optional fields are removed.
    """
    definition.pop("title", None)
    for field in definition.get("properties", {}).values():
        field.pop("title", None)
        if "default" in field and field["default"] is None:
            del field["default"]
