"""A model for replicas that cannot be loaded. Does not import torch."""

from codec_wire.errors import ModelLoadError
from core.role import Role
from core.service import LatentService
from core.settings import Settings

LOADER = f"{__name__}:FailingModel"


class FailingModel:
    """See codec_ray.model_loader.ModelLoader."""

    def __init__(self, settings: Settings, role: Role) -> None:
        """Accept what every loader accepts."""

    async def start_serving(self, service: LatentService) -> None:
        """Raise ModelLoadError."""
        raise ModelLoadError("there is no directory 'missing'")

    def free(self) -> bool:
        """See codec_ray.model_loader.ModelLoader."""
        return True
