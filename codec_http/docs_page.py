"""Rendering of the OpenAPI document as one HTML page without scripts or external resources."""

import json
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from importlib import resources
from typing import Any

Json = dict[str, Any]

_STYLE = resources.files("codec_http").joinpath("docs.css").read_text()
DOCS_POLICY = (
    "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
)
"""Content Security Policy of the page. The policy allows only the style sheet in the page."""


def docs_page(document: Json) -> str:
    """Return the HTML page for `document`, an OpenAPI 3.1 document without external references."""
    info = document["info"]
    sections = [_section(tag["name"], document["paths"]) for tag in document["tags"]]
    links = [*(tag["name"] for tag in document["tags"]), "Schemas"]
    navigation = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in links)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f'<header><a class="home" href="/">Try the server in this browser</a>'
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        f'<p>{escape(info["summary"])} <a href="/openapi.json">openapi.json</a></p>'
        f"<nav>{navigation}</nav></header><main>{''.join(sections)}{_schemas(document)}</main></body></html>"
    )


def _section(tag: str, paths: Json) -> str:
    operations = [
        _operation(method, path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    ]
    return f'<section id="{_anchor(tag)}"><h2>{escape(tag)}</h2>{"".join(operations)}</section>'


def _operation(method: str, path: str, operation: Json) -> str:
    parts = [f"<p>{_text(operation['description'])}</p>"]
    rows = [
        (_code(parameter["name"]), escape(parameter["in"]), _text(parameter.get("description", "")))
        for parameter in operation.get("parameters", [])
    ]
    if rows:
        parts.append(f"<h4>Parameters</h4>{_table(('name', 'in', 'description'), rows)}")
    if "requestBody" in operation:
        parts.append(_body(operation["requestBody"]["content"]))
    responses = _response_rows(operation["responses"])
    parts.append(f"<h4>Responses</h4>{_table(('status', 'description', 'content'), responses)}")
    expanded = " open" if method == "post" else ""
    return (
        f'<details{expanded}><summary><b class="{method}">{method.upper()}</b> {_code(path)} '
        f"<span>{escape(operation['summary'])}</span></summary>{''.join(parts)}</details>"
    )


def _body(content: Json) -> str:
    """Return the HTML description of a request body.

    For a JSON body, the description is the schema of the body. For a file, the description is a list of media types.
    """
    if "application/json" in content:
        return f"<h4>JSON body</h4><p>{_type(content['application/json']['schema'])}</p>"
    return f"<h4>Body</h4><p>{', '.join(_code(name) for name in content)}</p>"


def _response_rows(responses: Json) -> Iterable[tuple[str, ...]]:
    for status, response in responses.items():
        headers = response.get("headers", {})
        description = _text(response["description"])
        if headers:
            description += "<br>" + "<br>".join(
                f"{_code(name)} {_text(header['description'])}" for name, header in headers.items()
            )
        by_schema: dict[str, list[str]] = {}
        for media_type, content in response["content"].items():
            by_schema.setdefault(_type(content["schema"]) if "schema" in content else "", []).append(media_type)
        bodies = [f"{'<br>'.join(escape(name) for name in names)} {schema}" for schema, names in by_schema.items()]
        yield f'<b class="s{status[0]}">{escape(status)}</b>', description, "<br>".join(bodies)


def _schemas(document: Json) -> str:
    parts = [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return f'<section id="schemas"><h2>Schemas</h2>{"".join(parts)}</section>'


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        (
            _code(field) + (' <em title="required">required</em>' if field in required else ""),
            _type(value),
            _code(json.dumps(value["default"], ensure_ascii=False)) if "default" in value else "",
            _text(value.get("description", "")),
        )
        for field, value in schema.get("properties", {}).items()
    ]
    body = _table(("field", "type", "default", "description"), rows) if rows else f"<p>{_type(schema)}</p>"
    description = _text(schema.get("description", ""))
    return f'<article id="{escape(name)}"><h3>{escape(name)}</h3><p>{description}</p>{body}</article>'


_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "minItems": "at least {} items",
}


def _type(schema: Json) -> str:
    """Return a short HTML description of the values that `schema` allows."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    for choices in ("oneOf", "anyOf"):
        if choices in schema:
            return " or ".join(_type(choice) for choice in schema[choices] if choice.get("type") != "null")
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return " ".join(_code(json.dumps(value)) for value in values)
    text = escape(str(schema.get("type", "any")))
    if schema.get("type") == "array":
        text = f"list of {_type(schema.get('items', {}))}"
    elif isinstance(schema.get("additionalProperties"), dict):
        text = f"object of {_type(schema['additionalProperties'])}"
    bounds = [escape(template.format(schema[bound])) for bound, template in _BOUNDS.items() if bound in schema]
    examples = [_code(str(example)) for example in schema.get("examples", [])]
    return " ".join([text, ", ".join(bounds), *(["e.g.", *examples] if examples else [])]).strip()


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return an HTML table. `rows` contain HTML, and `headings` contain plain text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(text: str) -> str:
    """Convert plain text to HTML. Text between backticks becomes a <code> element."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _anchor(name: str) -> str:
    return escape(name.lower().replace(" ", "-"))
