"""Options of the commands that use a model on a server or in this process. See codec_server.target.Target."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_server.flags import replace_flags, settings_flags
from core.setting_field import PREFIX

LOCAL_PANEL = "Model in this process (without --server and --grpc)"
SETTINGS = (
    "model",
    "variant",
    "latent_space",
    "models_dir",
    "lora_dir",
    "allow_pickle",
    "device",
    "dtype",
    "threads",
    "log_level",
)
"""Settings of the model that a command runs in this process."""
LOG_LEVEL = "warning"
"""Default log level of the commands that use a model on a server or in this process.

The commands print results, so log messages about normal operation are not needed.
"""


def _option(text: str, panel: str = "Server", **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, show_default=False, **more)


def _target_options(
    *,
    server: Annotated[str | None, _option("HTTP server that runs the model, as http://HOST:PORT.")] = None,
    grpc: Annotated[str | None, _option("gRPC server that runs the model, as HOST:PORT.")] = None,
    api_key: Annotated[
        str | None, _option("API key, sent to the server as a bearer token.", envvar="CODEC_API_KEY")
    ] = None,
    ca_file: Annotated[
        Path | None,
        _option("PEM file with the certificate authority that has signed the server's TLS certificate."),
    ] = None,
    cert_file: Annotated[
        Path | None, _option("PEM file with the client's certificate, for a server that requires client certificates.")
    ] = None,
    key_file: Annotated[Path | None, _option("PEM file with the private key of --cert-file.")] = None,
    timeout_s: Annotated[float, _option("Timeout of the whole request in seconds. Default: 600.")] = 600.0,
) -> None:
    """Declare the command-line options whose values become the arguments of Target."""


def _local_options(
    *,
    factory: Annotated[
        str | None,
        _option(
            "Function that returns a diffusers pipeline, as MODULE:FUNCTION. This pipeline is used instead of --model.",
            LOCAL_PANEL,
        ),
    ] = None,
) -> None:
    """Declare --factory, which sets the setting `pipeline`.

    In the commands with --factory, the option --pipeline sets a field of the
    request and not the setting `pipeline`.
    """


def with_target(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a target to a typer command.

    The command receives two dictionaries as the arguments `target` and `flags`. The dictionary `target` contains the
    arguments of Target except `wire_format`. The dictionary `flags` contains the settings of the model that runs in
    this process. A flag that was not given has the value None.
    """
    shared, local = (inspect.signature(declared).parameters for declared in (_target_options, _local_options))

    def run(*arguments: Any, **options: Any) -> None:
        target = {name: options.pop(name) for name in shared}
        flags = {name: options.pop(name) for name in SETTINGS} | {"pipeline": options.pop("factory")}
        if f"{PREFIX}LOG_LEVEL" not in os.environ:
            flags["log_level"] = flags["log_level"] or LOG_LEVEL
        command(*arguments, **options, target=target, flags=flags)

    own = inspect.signature(command).parameters.values()
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter for parameter in own if parameter.name not in ("target", "flags")]
    )
    settings = settings_flags(SETTINGS, LOCAL_PANEL, log_level=LOG_LEVEL)
    replace_flags(run, [*shared.values(), *local.values(), *settings])
    return run
