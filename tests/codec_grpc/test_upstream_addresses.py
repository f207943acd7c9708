"""Addresses of the servers behind a gateway."""

import socket
from typing import Any

import pytest

from codec_grpc import upstream
from codec_grpc.upstream_addresses import UpstreamAddresses, channel_target
from codec_wire.errors import InvalidSettings
from core.settings import read_settings
from tests.support.serving import run_http_gateway
from tests.support.upstream_servers import generate_until, upstream_server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The IP addresses of host names, which the test can change."""
    found: dict[str, list[str]] = {}
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *options: Any, **named: Any) -> list[Any]:
        if host not in found:
            return resolve(host, port, *options, **named)
        if not found[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [row for address in found[host] for row in resolve(address, port, *options, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


async def test_names_are_resolved_to_all_their_addresses(names: dict[str, list[str]]) -> None:
    names |= {"codec": ["10.0.0.2", "10.0.0.1"], "other": ["::1", "10.0.0.3"], "six": ["::2"]}
    addresses = UpstreamAddresses(["codec:50051", "other:1", "six:2", "10.0.0.1:50051", "[::3]:3"])
    found = ("10.0.0.1:50051", "10.0.0.2:50051", "10.0.0.3:1", "[::2]:2", "[::3]:3")
    assert await addresses.resolve() == found
    assert addresses.authority == "codec:50051"


async def test_name_that_is_not_found_keeps_its_addresses(
    names: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    names["codec"] = ["10.0.0.1"]
    addresses = UpstreamAddresses(["codec:1", "gone:2"])
    names["gone"] = []
    assert await addresses.resolve() == ("10.0.0.1:1",)
    names["codec"] = []
    assert await addresses.resolve() == ("10.0.0.1:1",)
    assert caplog.text.count("cannot resolve the upstream server gone:2: Name or service not known") == 1


def test_addresses_of_both_kinds_are_one_target() -> None:
    assert channel_target(["10.0.0.1:1", "10.0.0.2:2"]) == "ipv4:10.0.0.1:1,10.0.0.2:2"
    assert channel_target(["10.0.0.1:1", "[::1]:2"]) == "ipv6:[::ffff:a00:1]:1,[::1]:2"


async def test_server_at_an_address_that_is_added_to_the_name_is_used(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "RESOLVE_INTERVAL_S", 0.1)
    names["codec"] = ["127.0.0.1"]
    async with (
        upstream_server() as a,
        upstream_server(port=a.server.port, host="127.0.0.2") as b,
        run_http_gateway(f"codec:{a.server.port}") as (_, http),
    ):
        await generate_until(http, lambda: a.started > 0)
        names["codec"] = ["127.0.0.1", "127.0.0.2"]
        await generate_until(http, lambda: b.started > 0)
        names["codec"] = ["127.0.0.2"]
        statuses: list[bool] = []

        def only_b_is_used() -> bool:
            statuses.append(a.started == before[0])
            before[0] = a.started
            return statuses[-6:] == [True] * 6

        before = [a.started]
        await generate_until(http, only_b_is_used)


@pytest.mark.parametrize("value", ["codec", "codec:0", "http://codec:1", "codec:1,", ":1", "unix:/tmp/x"])
def test_invalid_upstream_is_refused(value: str) -> None:
    with pytest.raises(InvalidSettings, match=r"CODEC_UPSTREAM \(--upstream\): must be one or more HOST:PORT"):
        read_settings({"upstream": value})


def test_upstream_is_a_list_of_servers() -> None:
    settings = read_settings({"upstream": "dns:///codec:50051, [::1]:1,10.0.0.1:2,codec:50051"})
    assert settings.upstream_servers == ("codec:50051", "[::1]:1", "10.0.0.1:2")
    assert read_settings({}).upstream_servers == ()
