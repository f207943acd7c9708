"""Settings of what a server reports to those who operate it."""

from typing import Literal

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Logging"


class OperationSettings(BaseSettings):
    """Logging and metrics. core.settings.Settings contains these fields."""

    log_level: Literal["debug", "info", "warning", "error"] = setting(
        _PANEL, "info", "Minimum level of log messages: debug, info, warning or error."
    )
    log_format: Literal["text", "json"] = setting(
        _PANEL, "text", "Format of log messages: text, or json with one object in each line."
    )
    metrics_port: int | None = setting(
        "Server",
        None,
        "Port of a second HTTP server on --host that serves only /metrics, without API keys and TLS. 0 selects a free "
        "port. Default: /metrics is only on --port, where it needs an API key if the server has any.",
        ge=0,
        le=65535,
    )
