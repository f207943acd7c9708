"""Settings that restrict who can use a server."""

from pathlib import Path

from pydantic import field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings

from core.address import ANY_ORIGIN, normalized_origin
from core.setting_field import setting

_PANEL = "Access"


class AccessSettings(BaseSettings):
    """Settings of API keys, allowed origins and TLS.

    The class core.settings.Settings contains the fields of this class.
    """

    api_key: str | None = setting(
        _PANEL,
        None,
        "API key that clients must send as a bearer token. Set CODEC_API_KEY instead of the flag, because other "
        "users of the host can read command lines. Default: no key is required.",
        repr=False,
    )
    api_keys_file: Path | None = setting(
        _PANEL,
        None,
        "File with API keys. Each line has the form NAME sha256:HEX, where HEX is the SHA-256 hash of the key. "
        "The server reads the file again when it receives SIGHUP.",
    )
    upstream_api_key: str | None = setting(
        _PANEL,
        None,
        "API key that a gateway sends to its upstream servers. The gateway does not forward the API keys of its "
        "clients.",
        repr=False,
    )
    allowed_origins: str | None = setting(
        _PANEL,
        None,
        "Comma-separated origins of the web pages that may use the HTTP server, each as SCHEME://HOST[:PORT]. "
        "The value * allows all origins. The origin of --public-url is always allowed. The server's own origin "
        "is also allowed if the host of this origin is an IP address or localhost. Default: all origins whose host "
        "is localhost or a loopback address, with any port.",
    )
    tls_cert: Path | None = setting(
        _PANEL,
        None,
        "PEM file with the TLS certificate of the HTTP and gRPC servers, followed by the certificate chain. The "
        "server reads the file again when it receives SIGHUP. Default: the servers do not use TLS.",
    )
    tls_key: Path | None = setting(_PANEL, None, "PEM file with the private key of --tls-cert.")
    tls_client_ca: Path | None = setting(
        _PANEL,
        None,
        "PEM file with the certificate authority of the clients. If this setting is given, every client must send "
        "a certificate that this authority has signed (mutual TLS).",
    )
    upstream_tls_ca: Path | None = setting(
        _PANEL,
        None,
        "PEM file with the certificate authority of a gateway's upstream servers. Default: connections to upstream "
        "servers do not use TLS.",
    )
    upstream_tls_cert: Path | None = setting(
        _PANEL, None, "PEM file with the TLS certificate that a gateway sends to its upstream servers."
    )
    upstream_tls_key: Path | None = setting(_PANEL, None, "PEM file with the private key of --upstream-tls-cert.")

    @property
    def allowed_origin_list(self) -> tuple[str, ...] | None:
        """The origins in `allowed_origins`, or None if `allowed_origins` is not set."""
        return None if self.allowed_origins is None else tuple(self.allowed_origins.split(","))

    @field_validator("allowed_origins")
    @classmethod
    def _normalize_origins(cls, value: str | None) -> str | None:
        return None if value is None else ",".join(map(_normalized, value.split(",")))


def _normalized(item: str) -> str:
    text = item.strip()
    origin = text if text == ANY_ORIGIN else normalized_origin(text.removesuffix("/"))
    if origin is None:
        raise PydanticCustomError(
            "origin", "must be *, or origins of the form SCHEME://HOST[:PORT], separated by commas"
        )
    return origin
