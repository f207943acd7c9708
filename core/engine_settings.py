"""Settings that select where the models run: in the process of the server, or on a Ray cluster."""

from typing import Literal

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Engine"


class EngineSettings(BaseSettings):
    """Settings of the engine that runs the models, and its replicas. core.settings.Settings contains these fields."""

    engine: Literal["local", "ray"] = setting(
        _PANEL,
        "local",
        "Where the models run. local: in this process, on one device. ray: in replicas on a Ray cluster; needs the "
        "extra ray. Each replica has one pipeline, on one GPU or on --threads CPU threads (default: 1).",
    )
    replicas: int | None = setting(
        _PANEL,
        None,
        "Number of replicas, if --engine is ray. It cannot be combined with --max-replicas. Default: 1.",
        ge=1,
    )
    min_replicas: int | None = setting(
        _PANEL, None, "Minimum number of replicas, if --max-replicas is set. Default: 1.", ge=1
    )
    max_replicas: int | None = setting(
        _PANEL,
        None,
        "Maximum number of replicas. If it is set, replicas are added and removed as the number of active "
        "generations changes.",
        ge=1,
    )
    ray_address: str | None = setting(
        _PANEL,
        None,
        "Address of a Ray cluster, HOST:PORT, or auto for the cluster of this machine. If models are already "
        "deployed on the cluster, these models are served; otherwise, --model is deployed. Default: the server "
        "starts Ray on this machine.",
    )
