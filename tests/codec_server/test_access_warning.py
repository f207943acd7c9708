"""The warning about a server that accepts requests from other hosts without authentication."""

import logging
from pathlib import Path
from typing import Any

import pytest

from codec_server.terminal.startup import server_url, warn_about_access
from core.settings import read_settings


@pytest.mark.parametrize(
    ("flags", "warns"),
    [
        ({}, False),
        ({"host": "127.0.0.2"}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "10.0.0.7"}, True),
        ({"host": "example.com"}, True),
        ({"host": "0.0.0.0", "tls_cert": Path("a"), "tls_key": Path("b")}, True),
        ({"host": "0.0.0.0", "api_key": "k"}, False),
        ({"host": "0.0.0.0", "api_keys_file": Path("keys")}, False),
        ({"host": "0.0.0.0", "tls_client_ca": Path("ca")}, False),
    ],
)
def test_server_for_other_hosts_without_authentication_logs_one_warning(
    flags: dict[str, Any], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_about_access(read_settings(flags))
    assert len(caplog.records) == warns
    if warns:
        assert f"listening on {flags['host']} without API keys" in caplog.text
        assert "CODEC_API_KEYS_FILE" in caplog.text


def test_url_of_a_server_with_tls_is_https() -> None:
    assert server_url(read_settings({}), 80) == "http://127.0.0.1:80"
    assert server_url(read_settings({"host": "::1", "tls_cert": Path("a")}), 443) == "https://[::1]:443"
