"""/openapi.json is valid and complete and agrees with the server's behaviour; /docs renders it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from codec_http.routes import ROUTES
from codec_http.server import build_app
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES
from tests.support.rendering import RENDERING
from tests.support.serving import MODEL, run_servers


async def document_of(http: Any) -> dict[str, Any]:
    response = await http.get("/openapi.json")
    assert response.status == 200
    document: dict[str, Any] = await response.json()
    return document


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema | {"components": document["components"]})


@pytest.mark.slow
async def test_document_is_valid_openapi() -> None:
    async with run_servers(FakeEngine()) as servers:
        document = await document_of(servers.http)
        OpenAPIV31SpecValidator(document).validate()
        assert document["openapi"].startswith("3.1")


async def test_document_contains_exactly_the_registered_routes() -> None:
    app = build_app(LatentService(Lifecycle(), Admission(1, 1)), 1)
    registered = {
        (route.method, re.sub(r"{(\w+):[^}]*}", r"{\1}", route.resource.canonical))
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    async with run_servers(FakeEngine()) as servers:
        document = await document_of(servers.http)
    documented = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert documented == registered
    assert len(registered) == len(ROUTES)
    operations = [about["operationId"] for methods in document["paths"].values() for about in methods.values()]
    assert len(set(operations)) == len(operations)


PATHS = {
    "/v1/models/{name}": "/v1/models/little",
    "/.well-known/codec/latents/{id}.json": f"/.well-known/codec/latents/{MODEL.latent_space}.json",
    "/.well-known/codec/dicts/{hex}.zstd": f"/.well-known/codec/dicts/{'0' * 64}.zstd",
    "/.well-known/codec/scales/{hex}.bin": None,
}


async def test_get_responses_match_the_document() -> None:
    async with run_servers(FakeEngine()) as servers:
        document = await document_of(servers.http)
        latent_map = servers.service.models.require_default().bundle.latent_map
        scales = next(entry.static_scales for entry in latent_map.pipelines if entry.static_scales)
        validated = 0
        for path, methods in document["paths"].items():
            if "get" not in methods:
                continue
            response = await servers.http.get(PATHS.get(path, path) or scales.url)
            documented = methods["get"]["responses"][str(response.status)]
            content = documented["content"][response.content_type]
            for name in documented.get("headers", {}):
                assert name in response.headers, path
            if "schema" in content:
                validator(document, content["schema"]).validate(await response.json())
                validated += 1
        assert validated >= 8


VALID: list[dict[str, Any]] = [
    {"prompt": "x"},
    {"prompt": "x", "n": 2, "size": "64x64", "output_format": "webp", "output_compression": 90, "steps": 1},
    {"prompt": "x", "stream_format": "msgpack", "pipeline": "int8", "size": "64X64", "steps": 1},
    {"prompt": "x", "pipeline": "int8", "steps": 1, "size": "64x64", "seed": -1},
    {"prompt": "x", "latent_space": MODEL.latent_space, "size": "64x64", "seed": None, "style": "vivid"},
    {"prompt": "x", "resolution": None, "size": None, "steps": 1, "latents": None, "n": None, "output_format": None},
    {"prompt": "x", "stream_format": "msgpack", "steps": 1, "modality": None, "stream": None},
    {"prompt": "x", "quality": "hd", "moderation": "auto", "style": "vivid", "size": "64x64"},
    {"prompt": "x", "modality": "image-latents", "resolution": "64", "steps": 2.0},
    {"prompt": "x", "modality": "image-latents", "resolution": 64, "steps": 1, "guidance_scale": 2},
]
INVALID: list[dict[str, Any]] = [
    {},
    {"prompt": ""},
    {"prompt": None},
    {"prompt": "x", "n": 11},
    {"prompt": "x", "n": 2, "stream_format": "msgpack"},
    {"prompt": "x", "stream_format": "json"},
    {"prompt": "x", "steps": 0},
    {"prompt": "x", "seed": 2**64},
    {"prompt": "x", "seed": -2},
    {"prompt": "x", "size": "64"},
    {"prompt": "x", "response_format": "url"},
    {"prompt": "x", "fps": 3},
    {"prompt": "x", "preview_every": 5},
    {"prompt": "x", "guidance_scale": 101},
    {"prompt": "x", "modality": "video-latents"},
    {"prompt": "x", "colour": "red"},
    {"prompt": "x", "size": "64x64", "resolution": "64x64"},
    {"prompt": "x", "size": "auto", "resolution": 64, "modality": "image-latents"},
]


@pytest.mark.parametrize("body", [*VALID, *INVALID])
async def test_body_is_accepted_exactly_if_the_schema_allows_it(body: dict[str, Any]) -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        document = await document_of(servers.http)
        operation = document["paths"][IMAGES]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        response = await servers.http.post(IMAGES, json=body)
        is_valid = validator(document, schema).is_valid(body)
        assert is_valid == (body in VALID) == (response.status == 200)
        content = operation["responses"][str(response.status)]["content"][response.content_type]
        if "schema" in content:
            validator(document, content["schema"]).validate(await response.json())


async def test_the_page_of_request_fields_lists_every_field() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/requests.md").read_text()
    listed = [
        name for cell in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    ]
    async with run_servers(FakeEngine(), RENDERING) as servers:
        schemas = (await document_of(servers.http))["components"]["schemas"]
    bodies = ("ImageLatentsBody", "VideoLatentsBody", "RenderedImagesBody", "RenderedVideosBody")
    assert set(listed) == {name for body in bodies for name in schemas[body]["properties"]}


async def test_every_request_field_is_documented_with_its_limits() -> None:
    async with run_servers(FakeEngine()) as servers:
        schemas = (await document_of(servers.http))["components"]["schemas"]
    assert {field.alias or name for name, field in GenerationRequest.model_fields.items()} <= set(
        schemas["VideoLatentsBody"]["properties"]
    )
    steps = schemas["RenderedImagesBody"]["properties"]["steps"]
    assert (steps["anyOf"][0]["minimum"], steps["default"]) == (1, GenerationRequest.model_fields["steps"].default)
    for name, schema in schemas.items():
        if name.startswith(("Rendered", "Image", "Video")):
            assert all(about.get("description") for about in schema["properties"].values()), name


class Page(HTMLParser):
    """Parser that collects external resources, links, ids and unclosed tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if values.keys() & {"src", "srcset"} or tag in ("script", "link"):
            self.fetched.append(tag)
        self.links |= {values["href"]} if "href" in values else set()
        self.ids |= {values["id"]} if "id" in values else set()
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_page_contains_every_route_and_loads_no_resources() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.get("/docs")
        text = await response.text()
        document = await document_of(servers.http)
    assert response.content_type == "text/html"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.fetched == []
    assert not re.search(r"url\(|@import|https?://", text)
    inner = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inner <= page.ids
    assert page.links - {f"#{name}" for name in inner} == {"/", "/openapi.json"}
    for path in document["paths"]:
        assert f"<code>{path}</code>" in text
    for name in document["components"]["schemas"]:
        assert name in page.ids
    assert json.dumps("image-latents").replace('"', "&quot;") in text
