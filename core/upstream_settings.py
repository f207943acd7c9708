"""Settings that name the upstream servers of a gateway."""

from pydantic import field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings

from core.address import split_host_port
from core.setting_field import setting

_DNS_SCHEME = "dns:///"


class UpstreamSettings(BaseSettings):
    """Settings for the upstream servers of a gateway.

    The class core.settings.Settings inherits the fields of this class.
    """

    upstream: str | None = setting(
        "Server",
        None,
        "Comma-separated addresses HOST:PORT of the gRPC servers to which a gateway forwards requests. A host "
        "name may resolve to several servers, and may have the prefix dns:///.",
    )

    @property
    def upstream_servers(self) -> tuple[str, ...]:
        """The servers in `upstream`, each as HOST:PORT, or an empty tuple if `upstream` is not set."""
        return () if self.upstream is None else tuple(self.upstream.split(","))

    @field_validator("upstream")
    @classmethod
    def _normalize_servers(cls, value: str | None) -> str | None:
        return None if value is None else ",".join(dict.fromkeys(map(_normalized, value.split(","))))


def _normalized(item: str) -> str:
    text = item.strip().removeprefix(_DNS_SCHEME)
    try:
        split_host_port(text)
    except ValueError:
        raise PydanticCustomError("upstream", "must be one or more HOST:PORT, separated by commas") from None
    return text
