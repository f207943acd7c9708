"""The OpenAPI document as one page of HTML: no scripts, nothing fetched, the same without a network."""

import json
from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import Any

Json = dict[str, Any]


def docs_page(document: Json) -> str:
    """Return the page for `document`, an OpenAPI 3.1 document whose references point to its own schemas."""
    info = document["info"]
    style = resources.files("codec_http").joinpath("docs.css").read_text()
    sections = [_section(tag["name"], document["paths"]) for tag in document["tags"]]
    links = [*(tag["name"] for tag in document["tags"]), "Types"]
    navigation = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in links)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        f'<p>{escape(info["summary"])} <a href="/openapi.json">openapi.json</a></p>'
        f"<nav>{navigation}</nav></header><main>{''.join(sections)}{_types(document)}</main></body></html>"
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
        parts.append(f"<h4>Parameters</h4>{_table(('name', 'in', 'what it is'), rows)}")
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append(f"<h4>Body, JSON</h4><p>{_type(schema)}</p>")
    parts.append(f"<h4>Answers</h4>{_table(('status', 'when', 'body'), _answers(operation['responses']))}")
    opened = " open" if method == "post" else ""
    return (
        f'<details{opened}><summary><b class="{method}">{method.upper()}</b> {_code(path)} '
        f"<span>{escape(operation['summary'])}</span></summary>{''.join(parts)}</details>"
    )


def _answers(responses: Json) -> Iterable[tuple[str, ...]]:
    for status, response in responses.items():
        headers = response.get("headers", {})
        said = _text(response["description"])
        if headers:
            said += "<br>" + "<br>".join(
                f"{_code(name)} {_text(header['description'])}" for name, header in headers.items()
            )
        by_schema: dict[str, list[str]] = {}
        for media_type, content in response["content"].items():
            by_schema.setdefault(_type(content["schema"]) if "schema" in content else "", []).append(media_type)
        bodies = [f"{'<br>'.join(escape(name) for name in names)} {shown}" for shown, names in by_schema.items()]
        yield f'<b class="s{status[0]}">{escape(status)}</b>', said, "<br>".join(bodies)


def _types(document: Json) -> str:
    parts = [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return f'<section id="types"><h2>Types</h2>{"".join(parts)}</section>'


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        (
            _code(field) + (' <em title="required">required</em>' if field in required else ""),
            _type(about),
            _code(json.dumps(about["default"], ensure_ascii=False)) if "default" in about else "",
            _text(about.get("description", "")),
        )
        for field, about in schema.get("properties", {}).items()
    ]
    shown = _table(("field", "type", "default", "what it is"), rows) if rows else f"<p>{_type(schema)}</p>"
    says = _text(schema.get("description", ""))
    return f'<article id="{escape(name)}"><h3>{escape(name)}</h3><p>{says}</p>{shown}</article>'


_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} long",
    "minItems": "at least {}",
}


def _type(schema: Json) -> str:
    """Return what a value of that schema may be, in a few words of HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    for choices in ("oneOf", "anyOf"):
        if choices in schema:
            return " or ".join(_type(choice) for choice in schema[choices] if choice.get("type") != "null")
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return " ".join(_code(json.dumps(value)) for value in values)
    shown = escape(str(schema.get("type", "any")))
    if schema.get("type") == "array":
        shown = f"list of {_type(schema.get('items', {}))}"
    elif isinstance(schema.get("additionalProperties"), dict):
        shown = f"object of {_type(schema['additionalProperties'])}"
    bounds = [escape(words.format(schema[bound])) for bound, words in _BOUNDS.items() if bound in schema]
    examples = [_code(str(example)) for example in schema.get("examples", [])]
    return " ".join([shown, ", ".join(bounds), *(["e.g.", *examples] if examples else [])]).strip()


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; cells are HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(text: str) -> str:
    """Return prose as HTML; what stands between backticks is code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _anchor(name: str) -> str:
    return escape(name.lower().replace(" ", "-"))
