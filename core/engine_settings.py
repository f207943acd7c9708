"""Settings of where the models run: in the process of the server, or on a Ray cluster."""

from typing import Literal

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Engine"


class EngineSettings(BaseSettings):
    """The engine and its replicas. core.settings.Settings contains these fields."""

    engine: Literal["local", "ray"] = setting(
        _PANEL,
        "local",
        "Where the models run. local: in this process, on one device. ray: in replicas on a Ray cluster, with one "
        "pipeline each, on one GPU or on --threads CPU threads (1 by default); needs the extra ray.",
    )
    replicas: int | None = setting(
        _PANEL,
        None,
        "Number of replicas, with --engine ray. Default: 1. Not with --max-replicas, which lets the number vary.",
        ge=1,
    )
    min_replicas: int | None = setting(
        _PANEL, None, "Minimum number of replicas if their number follows the load. Default: 1.", ge=1
    )
    max_replicas: int | None = setting(
        _PANEL,
        None,
        "Maximum number of replicas. If it is set, the number of replicas follows the number of active generations.",
        ge=1,
    )
    ray_address: str | None = setting(
        _PANEL,
        None,
        "Address of a Ray cluster, HOST:PORT, or auto for the cluster of this machine. Models that are already "
        "deployed on it are served, else --model is deployed. Default: the server starts Ray on this machine.",
    )
