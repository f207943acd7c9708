"""Makes the OpenAPI document of the routes, from the types that check requests and make answers."""

import re
from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from codec_http.errors import status_of
from codec_http.response_models import ErrorAnswer
from codec_wire.errors import CodecError, RetryableError
from codec_wire.http import REQUEST_HEADERS
from codec_wire.version import SERVER_VERSION

if TYPE_CHECKING:  # the table of routes names the handler that serves this document
    from codec_http.routes import Content, Route

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"{(\w+)(?::[^}]*)?}")


def openapi_document(routes: Iterable["Route"]) -> Json:
    """Return the document, OpenAPI 3.1, of `routes`."""
    routes = tuple(routes)
    paths: dict[str, Json] = defaultdict(dict)
    for route in routes:
        paths[_PARAMETER.sub(r"{\1}", route.path)][route.method.lower()] = _operation(route)
    tags = dict.fromkeys(route.tag for route in routes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "codec-diffusers",
            "version": SERVER_VERSION,
            "summary": "Runs diffusion pipelines and streams their latents; renders them where pixels are asked for.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in tags],
        "paths": dict(paths),
        "components": {"schemas": _schemas(routes)},
    }


def _operation(route: "Route") -> Json:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    operation: Json = {
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "summary": route.title,
        "description": route.says,
    }
    if route.bodies:
        parameters += [
            {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
            for name, text in REQUEST_HEADERS.items()
        ]
        schema = {"oneOf": [_reference(body) for body in route.bodies]}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if parameters:
        operation["parameters"] = parameters
    operation["responses"] = _responses(route)
    return operation


def _operation_id(route: "Route") -> str:
    return "_".join([route.method.lower(), *re.findall(r"\w+", _PARAMETER.sub(r"\1", route.path))])


def _responses(route: "Route") -> Json:
    responses: Json = {}
    for status, content in route.answers.items():
        answer = responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": _content(content)}
        if status == HTTPStatus.OK and route.headers:
            answer["headers"] = {name: _header(text) for name, text in route.headers.items()}
    reasons: dict[int, list[type[CodecError]]] = defaultdict(list)
    for error in route.errors:
        reasons[status_of(error.__new__(error))].append(error)
    for status, found in sorted(reasons.items()):
        responses[str(status)] = _error_response(found)
    return responses


def _error_response(found: list[type[CodecError]]) -> Json:
    """Return the response for errors of one status. Each class says in its docstring what it stands for."""
    meanings = [_first_sentence(error) for error in found]
    answer: Json = {
        "description": " Or: ".join(meanings),
        "content": _content({"application/json": ErrorAnswer}),
    }
    if any(issubclass(error, RetryableError) for error in found):
        answer["headers"] = {"Retry-After": _header("Seconds after which to try again.")}
    return answer


def _first_sentence(error: type[CodecError]) -> str:
    if error is CodecError:
        return "A fault of the server; its log has the reason."
    return (error.__doc__ or "").split(". ")[0].strip().rstrip(".") + "."


def _header(text: str) -> Json:
    return {"description": text, "schema": {"type": "string"}}


def _content(content: "Content") -> Json:
    return {media_type: {} if model is None else {"schema": _reference(model)} for media_type, model in content.items()}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(routes: Iterable["Route"]) -> Json:
    """Return the schemas of all types that the routes name, by name."""
    bodies = {body for route in routes for body in route.bodies}
    answers = {
        model
        for route in routes
        for content in route.answers.values()
        for model in content.values()
        if model is not None
    } | {ErrorAnswer}
    _, schema = models_json_schema(
        [
            *((body, "validation") for body in sorted(bodies, key=lambda model: model.__name__)),
            *((answer, "serialization") for answer in sorted(answers, key=lambda model: model.__name__)),
        ],
        ref_template=_REF,
    )
    schemas: Json = schema["$defs"]
    for definition in schemas.values():
        _tidy(definition)
    return schemas


def _tidy(definition: Json) -> None:
    """Take away what pydantic adds and nobody needs: titles that repeat names, and null for "not given"."""
    definition.pop("title", None)
    for field in definition.get("properties", {}).values():
        field.pop("title", None)
        if "default" in field and field["default"] is None:
            del field["default"]
