"""Flags and variables of the sibling servers: how codec-supervisor starts a server, and configured maps."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from codec_client.cache import FileCache
from codec_client.downloads import fetch_file
from codec_server.__main__ import with_default_command
from codec_server.configured_map import fetch_configured_map, find_model_map, require_configured_map
from codec_wire.errors import InvalidMap, InvalidSettings
from core.settings import Settings, read_settings
from tests.support.dictionaries import DICTIONARY, DIGEST, bundle_with_dictionary, with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.processes import start_process
from tests.support.serving import LATENT_SPACE, MODEL, VIDEO_MODEL, bundle_of, http_address, run_servers

URL = f"/.well-known/codec/latents/{LATENT_SPACE}.json"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["serve"]),
        (["--host", "127.0.0.1"], ["serve", "--host", "127.0.0.1"]),
        (["serve", "--port", "0"], ["serve", "--port", "0"]),
        (["doctor"], ["doctor"]),
        (["--version"], ["--version"]),
        (["--help"], ["--help"]),
    ],
)
def test_module_without_a_command_serves(given: list[str], expected: list[str]) -> None:
    assert with_default_command(given) == expected


@pytest.mark.slow
def test_python_m_codec_server_serves_as_codec_supervisor_starts_it() -> None:
    arguments = ["--host", "127.0.0.1", "--port", "0", "--model", "embedded", "--device", "cpu"]
    arguments += ["--torch-dtype", "float32", "--preload", "--grpc-port", "0", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "codec_server", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if "Ready after" in line:
                    break
            assert "Ready after" in "".join(lines[-1:]), "".join(lines)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_serve_starts_with_service_links_and_upper_case_and_ipv6() -> None:
    variables = {"CODEC_LOG_LEVEL": "INFO", "CODEC_PORT": "tcp://10.0.0.1:8080", "CODEC_DTYPE": "FP32"}
    arguments = ["serve", "--port", "0", "--grpc-port", "0", "--threads", "1"]
    with start_process(arguments, CODEC_HOST="::1", HF_HUB_OFFLINE="1", **variables) as server:
        server.wait_for(r"HTTP +http://\[::1\]:\d+/v1/images")
        server.wait_for(r"gRPC +\[::1\]:\d+ ")
        server.wait_for(r"curl http://\[::1\]:\d+/v1/images")
        assert server.output.count("service links") == 1
        server.popen.send_signal(signal.SIGTERM)
        assert server.exit_status() == 0


async def test_map_at_a_url_is_downloaded_verified_and_cached(tmp_path: Path) -> None:
    bundle, cache = with_dictionary(bundle_of(MODEL)), FileCache(tmp_path)
    async with run_servers(FakeEngine(), bundle=bundle) as servers:
        url = http_address(servers) + URL
        hex_digest = bundle.hash.removeprefix("sha256:")
        settings = read_settings({"latent_map_url": url, "latent_map_sha256": hex_digest})
        assert await fetch_configured_map(settings, cache) == bundle
        other = read_settings({"latent_map_url": url, "latent_map_sha256": "0" * 64})
        with pytest.raises(InvalidMap, match=f"--latent-map-url.* has the hash {bundle.hash}, .* is sha256:000"):
            await fetch_configured_map(other, cache)
    assert await fetch_configured_map(settings, cache) == bundle  # from the cache: the server has stopped
    with pytest.raises(InvalidMap, match="cannot connect"):
        await fetch_configured_map(settings, FileCache(tmp_path / "empty"))


async def test_files_in_the_dictionary_directory_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionaries = tmp_path / "dicts"
    dictionaries.mkdir()
    (dictionaries / "sd-vae-ft-mse-msgpack-int8-v1.dict").write_bytes(DICTIONARY)
    requested: list[str] = []

    async def recording(session: aiohttp.ClientSession, url: str, headers: dict[str, str], **options: Any) -> bytes:
        requested.append(url)
        return await fetch_file(session, url, headers, **options)

    monkeypatch.setattr("codec_server.configured_map.fetch_file", recording)
    async with run_servers(FakeEngine(), bundle=bundle_with_dictionary()) as servers:
        settings = read_settings({"latent_map_url": http_address(servers) + URL, "latent_dicts_dir": dictionaries})
        found = await fetch_configured_map(settings, FileCache(tmp_path / "cache"))
    assert found is not None
    assert found.assets[DIGEST] == DICTIONARY
    assert not [url for url in requested if DIGEST.removeprefix("sha256:") in url]


def settings_for(**fields: object) -> Settings:
    return read_settings({"latent_map_url": "https://x/map.json", **fields})


def test_configured_map_must_be_that_of_a_served_model(tmp_path: Path) -> None:
    bundle = bundle_with_dictionary()
    settings = settings_for(models_dir=tmp_path)
    assert find_model_map(settings, bundle, VIDEO_MODEL, 0.18215) is bundle
    with pytest.raises(InvalidMap, match="vae_scale_factor"):
        find_model_map(settings, bundle, MODEL, 0.5)
    message = (
        f"map of the latent space {LATENT_SPACE}, but this server serves a/b\\. .* set --latent-space {LATENT_SPACE}$"
    )
    with pytest.raises(InvalidSettings, match=message):
        require_configured_map(settings, bundle, {"a/b": None})
    require_configured_map(settings, bundle, {LATENT_SPACE: bundle})


def test_stored_map_with_another_hash_than_the_configured_one_is_refused() -> None:
    bundle = bundle_with_dictionary()
    require_configured_map(read_settings({"latent_map_sha256": bundle.hash}), None, {LATENT_SPACE: bundle})
    with pytest.raises(InvalidSettings, match=r"--latent-map-sha256.*but this server has the maps stabilityai"):
        require_configured_map(read_settings({"latent_map_sha256": "0" * 64}), None, {LATENT_SPACE: bundle})
