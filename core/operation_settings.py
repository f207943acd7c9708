"""Settings of logging and metrics."""

from typing import Literal

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Logging"


class OperationSettings(BaseSettings):
    """Settings of logging and metrics. The class core.settings.Settings inherits the fields of this class."""

    log_level: Literal["debug", "info", "warning", "error"] = setting(
        _PANEL, "info", "Minimum level of log messages: debug, info, warning or error."
    )
    log_format: Literal["text", "json"] = setting(
        _PANEL, "text", "Format of log messages: text, or json for one JSON object in each line."
    )
    metrics_port: int | None = setting(
        "Server",
        None,
        "Port of a second HTTP server on --host that serves only /metrics, without API keys and TLS. 0 selects a "
        "free port. Default: /metrics is only available on --port, and needs an API key if the server requires one.",
        ge=0,
        le=65535,
    )
