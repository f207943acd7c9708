"""The option `--extra` of `generate`, and `reproduce` of files whose request had extra parameters."""

import json
from pathlib import Path

import pytest

from codec_server.actions.generate import parse_extra
from codec_wire.errors import InvalidRequest
from tests.support.commands import invoke
from tests.support.serving import Servers, http_address

pytestmark = pytest.mark.usefixtures("command_environment")

REQUEST = ["a snowy mountain", "--steps", "3", "--size", "64x48", "--seed", "7"]
OPTIONS = ["--extra", "clip_skip=1", "--extra", "guidance_rescale=0.7"]
EXTRA = {"guidance_rescale": 0.7, "clip_skip": 1}


@pytest.mark.slow
def test_recorded_parameters_reproduce_the_file(servers: Servers, tmp_path: Path) -> None:
    plain, stream, image = (tmp_path / name for name in ("plain.bin", "a.bin", "a.png"))
    http, grpc = ["--server", http_address(servers)], ["--grpc", servers.grpc_address]
    assert invoke("generate", *REQUEST, "-o", plain, *http)[0] == 0
    assert invoke("generate", *REQUEST, *OPTIONS, "-o", stream, *http)[0] == 0
    status, output = invoke("generate", *REQUEST, *OPTIONS, "-o", image, "--json", *grpc)
    assert (status, json.loads(output)["parameters"]["extra"]) == (0, EXTRA)
    assert stream.read_bytes() != plain.read_bytes()
    recorded = tmp_path / "a.bin.json"
    assert json.loads(recorded.read_text())["extra"] == EXTRA
    for file in (stream, image):
        for target in (http, grpc):
            assert invoke("reproduce", file, *target) == (0, f"equal: {file}\n")
    recorded.write_text(recorded.read_text().replace('"clip_skip": 1', '"clip_skip": 0'))
    assert invoke("reproduce", stream, *http)[0] == 1


def test_items_are_parsed_to_an_object() -> None:
    assert parse_extra(["clip_skip=1", "guidance_rescale=0.5"]) == {"clip_skip": 1, "guidance_rescale": 0.5}
    assert parse_extra(["clip_skip=x"]) == {"clip_skip": "x"}  # the request refuses it
    assert parse_extra([]) is None


@pytest.mark.parametrize("items", [["clip_skip"], ["=1"], [""], ["clip_skip=1", "clip_skip=2"]])
def test_malformed_item_is_rejected(items: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="^extra: must ") as caught:
        parse_extra(items)
    assert repr(items[-1]) in str(caught.value)
