"""Settings of batches, in which the device samples several generations together."""

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Fast mode"


class BatchSettings(BaseSettings):
    """Settings of batches. The class core.settings.Settings contains the fields of this class."""

    batch_size: int = setting(
        _PANEL,
        1,
        "Maximum number of generations that the device samples together as a batch. All generations in a batch "
        "have the same model, size, number of steps and guidance scale. A value above 1 needs --mode fast, "
        "because a batch can change the bytes of the results.",
        ge=1,
        le=64,
    )
    batch_window_ms: float = setting(
        _PANEL,
        20,
        "Maximum time in milliseconds that a generation waits for other generations to form a batch. A "
        "generation waits only if the device is idle and --batch-size is above 1.",
        ge=0,
        le=10_000,
    )
