"""Settings of batches, in which the device samples several generations together."""

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Fast mode"


class BatchSettings(BaseSettings):
    """Settings of batches. core.settings.Settings contains these fields."""

    batch_size: int = setting(
        _PANEL,
        1,
        "Maximum number of generations in a batch, which is sampled together. All generations in a batch have the "
        "same model, size, number of steps and guidance scale. A value above 1 can change the bytes of the "
        "results, and needs --mode fast.",
        ge=1,
        le=64,
    )
    batch_window_ms: float = setting(
        _PANEL,
        20,
        "Maximum time in milliseconds for which a new generation waits for other generations of the same batch, "
        "if the device is idle and --batch-size is above 1.",
        ge=0,
        le=10_000,
    )
