"""Settings of the LoRA weights that requests may name."""

from pathlib import Path

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "LoRA weights in requests"


class LoraSettings(BaseSettings):
    """Settings of LoRA weights in requests. The class core.settings.Settings contains the fields of this class."""

    lora_dir: Path | None = setting(
        _PANEL,
        None,
        "Directory of LoRA files that requests may name. Requests may name every .safetensors file directly in this "
        "directory, by its file name without the extension. Files can be added while the server runs. Default: "
        "requests must not contain LoRA weights.",
    )
    lora_cache_mib: int = setting(
        _PANEL,
        1024,
        "Maximum size in MiB of the LoRA weights that each model keeps loaded for later requests. The least recently "
        "used weights are unloaded first. This memory is not available to generations.",
        ge=1,
    )

    @property
    def lora_cache_bytes(self) -> int:
        """The limit `lora_cache_mib` in bytes."""
        return self.lora_cache_mib << 20
