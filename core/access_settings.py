"""Settings that restrict who can use a server."""

from pathlib import Path

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Access"


class AccessSettings(BaseSettings):
    """API keys. core.settings.Settings contains these fields."""

    api_key: str | None = setting(
        _PANEL,
        None,
        "API key that clients must send, as a bearer token. Other users of the host can read command lines: prefer the "
        "variable. Default: no key is required.",
        repr=False,
    )
    api_keys_file: Path | None = setting(
        _PANEL,
        None,
        "File with API keys, one NAME sha256:HEX in each line, where HEX is the sha256 of the key. It is read again "
        "on SIGHUP.",
    )
    upstream_api_key: str | None = setting(
        _PANEL, None, "API key that a gateway sends to its upstream server, whatever keys its clients send.", repr=False
    )
