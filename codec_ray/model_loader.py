"""Interface of the class that loads the models of a replica.

Loading a model needs packages that codec_ray must not import. codec_ray receives only the name of the loader class as
MODULE:CLASS, and a replica imports the class.
"""

from importlib import import_module
from typing import Protocol, cast

from core.role import Role
from core.service import LatentService
from core.settings import Settings

LOADER = "codec_server.local_model:LocalModel"
"""The default loader, which also loads the models of `codec-diffusers serve --engine local`."""


class ModelLoader(Protocol):
    """Loads the diffusers pipelines of a process and owns the thread that runs the pipelines."""

    def __init__(self, settings: Settings, role: Role) -> None: ...

    async def start_serving(self, service: LatentService) -> None:
        """Load and warm up the models, then let `service` serve the models. Raises StartupError."""

    async def follow(self, service: LatentService) -> None:
        """Stop serving while the device hangs or fails. Runs until cancelled."""

    def free(self) -> bool:
        """Release the pipelines. Return False if a pipeline is still being loaded."""


def import_loader(name: str) -> type[ModelLoader]:
    """Import and return the class that `name` specifies as MODULE:CLASS."""
    module, _, attribute = name.partition(":")
    return cast("type[ModelLoader]", getattr(import_module(module), attribute))
