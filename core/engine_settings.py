"""Settings that select whether the models run in the process of the server or on a Ray cluster."""

from typing import Literal

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Engine"


class EngineSettings(BaseSettings):
    """Settings of the engine that runs the models, and of the engine's replicas.

    The class core.settings.Settings contains the fields of this class.
    """

    engine: Literal["local", "ray"] = setting(
        _PANEL,
        "local",
        "Engine that runs the models. With 'local', the models run in this process, on one device. With 'ray', the "
        "models run in replicas on a Ray cluster, which needs the optional dependencies codec-diffusers[ray]. "
        "Each replica runs one diffusers pipeline, on one GPU or on CPU threads. --threads sets the number of these "
        "threads (default: 1).",
    )
    replicas: int | None = setting(
        _PANEL,
        None,
        "Fixed number of model replicas on the Ray cluster, if --engine is ray. This setting cannot be combined "
        "with --max-replicas. Default: 1.",
        ge=1,
    )
    min_replicas: int | None = setting(
        _PANEL, None, "Minimum number of model replicas on the Ray cluster, if --max-replicas is set. Default: 1.", ge=1
    )
    max_replicas: int | None = setting(
        _PANEL,
        None,
        "Maximum number of model replicas on the Ray cluster. If this setting is given, replicas are added and "
        "removed when the number of active generations changes.",
        ge=1,
    )
    ray_address: str | None = setting(
        _PANEL,
        None,
        "Address HOST:PORT of a Ray cluster, or 'auto' for the cluster on this machine. If models are already "
        "deployed on the cluster, the server serves these models. Otherwise, the server deploys and serves "
        "--model. Default: the server starts Ray on this machine.",
    )
