"""Server settings, which are read from CODEC_* environment variables and from command-line flags of the same names.

Flags take precedence.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from codec_wire.errors import InvalidSettings, truncated_repr
from core.access_settings import AccessSettings
from core.batch_settings import BatchSettings
from core.engine_settings import EngineSettings
from core.fast_settings import FastSettings
from core.job_settings import JobSettings
from core.limit_settings import LimitSettings
from core.lora_settings import LoraSettings
from core.operation_settings import OperationSettings
from core.service_links import service_links
from core.setting_field import PREFIX, either_variable
from core.setting_field import setting as _setting
from core.upstream_settings import UpstreamSettings

_TORCH_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
"""Dictionary that maps the torch name of a dtype to the value of the setting `dtype`.

The setting `dtype` accepts the torch name as well as the value.
"""
_FORMATS = {
    "latent_map_url": "an http:// or https:// URL",
    "latent_map_sha256": "[sha256:]HEX with 64 hex digits",
    "public_url": "an http:// or https:// URL without a query",
    "image_digest": "[NAME@]sha256:HEX with 64 hex digits",
    "guidance_interval": "intervals BEGIN-END separated by /, with numbers from 0 to 1, the first of which is 0",
    "compile_sizes": "one or more sizes WIDTHxHEIGHT, separated by commas",
}
"""Texts that describe the allowed values of a setting in error messages.

The keys of this dictionary are the settings whose values must match a regular expression.
"""


class Settings(
    AccessSettings,
    OperationSettings,
    UpstreamSettings,
    EngineSettings,
    FastSettings,
    BatchSettings,
    LimitSettings,
    JobSettings,
    LoraSettings,
):
    """All settings of a server, with default values.

    Each setting is set by the environment variable CODEC_<NAME> or by the command-line flag --<name>.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, populate_by_name=True
    )

    model: str | None = _setting(
        "Model",
        None,
        "Hugging Face Hub id or directory of a diffusers pipeline, or a .safetensors file with the weights of a "
        "pipeline. A path may be relative to --models-dir. Default: embedded, which is the model included in "
        "codec-diffusers.",
        validation_alias=either_variable("MODEL", "INITIAL_MODEL"),
    )
    variant: str | None = _setting(
        "Model",
        None,
        "Variant of the weight files to load from --model, e.g. fp16. The file names contain the variant. By "
        "default, the files without a variant are loaded. If these files are missing, the files of the only "
        "available variant are loaded.",
    )
    pipeline: str | None = _setting(
        "Model",
        None,
        "Function that returns the diffusers pipeline to serve, as MODULE:FUNCTION. This pipeline is served "
        "instead of --model.",
    )
    video_model: str | None = _setting(
        "Model",
        None,
        "Second model, which generates videos. The value is the Hub id or directory of a diffusers pipeline, or "
        "the directory of a MotionAdapter that is combined with --model.",
    )
    loras: str | None = _setting(
        "Model",
        None,
        "Comma-separated LoRA weights to add to the model, each as PATH:SCALE. PATH is a file, a directory or a "
        "Hub id.",
    )
    partial_loras: bool = _setting(
        "Model",
        False,
        "Accept LoRA files of which only some weights match the model. The matching weights are applied, and a "
        "warning is logged. Without this flag, such a LoRA file is an error.",
    )
    role: Literal["all", "decoder", "generator"] = _setting(
        "Model",
        "all",
        "Role of the server. With the role all, the server generates, decodes and encodes. With the role "
        "decoder, the server only decodes and encodes latents, and loads only the VAE. With the role decoder, "
        "--model may also be the Hub id or directory of a VAE. With the role generator, the server only "
        "generates latents, and does not keep the VAE in memory.",
    )
    models_dir: Path = _setting("Model", Path("/models"), "Directory that contains local models and latent-space maps.")
    allow_pickle: bool = _setting(
        "Model",
        False,
        "Also load weight files that are not in the safetensors format. Loading such a file can execute code "
        "that the file contains.",
    )
    latent_space: str | None = _setting(
        "Latent-space map",
        None,
        "Id of the model's latent space. Default: the published id if the model is known, otherwise an id that is "
        "derived from the model's name.",
        validation_alias=either_variable("LATENT_SPACE", "INITIAL_LATENT_SPACE"),
    )
    latent_map_url: str | None = _setting(
        "Latent-space map",
        None,
        "URL of the latent-space map to serve. The server downloads and verifies the map when it starts. Default: "
        "the map in --models-dir.",
        pattern=r"^https?://\S+$",
    )
    latent_map_sha256: str | None = _setting(
        "Latent-space map",
        None,
        "Hash that the latent-space map must have, as [sha256:]HEX with 64 hex digits. If the map has another "
        "hash, the server refuses to start.",
        pattern=r"^(sha256:)?[0-9a-fA-F]{64}$",
    )
    latent_dicts_dir: Path | None = _setting(
        "Latent-space map",
        None,
        "Directory with local copies of files that the map at --latent-map-url refers to, e.g. zstd dictionaries. "
        "A file is not downloaded if a file with the same hash is in this directory.",
    )
    calibration_images: int = _setting(
        "Latent-space map",
        12,
        "Number of images that the server generates to create a latent-space map, if the model does not have a "
        "map. The images are used to calibrate the pipelines int8 and int4 and to train zstd dictionaries. A "
        "quarter of the images is used only for evaluation. If the value is 0, the map supports neither int8 nor "
        "int4, and has no zstd dictionaries.",
        ge=0,
    )
    device: str = _setting(
        "Device",
        "auto",
        "torch device that runs the model, e.g. cpu, cuda or cuda:1. 'auto' selects a GPU if the machine "
        "has one, otherwise the CPU.",
    )
    dtype: Literal["auto", "fp16", "bf16", "fp32"] = _setting(
        "Device",
        "auto",
        "Floating-point type of the model: fp16, bf16 or fp32. 'auto' selects fp32 on a CPU. On a GPU, "
        "'auto' selects bf16 if the weights are stored as bf16, otherwise fp16.",
    )
    threads: int | None = _setting(
        "Device",
        None,
        "Number of CPU threads that run the model. Default: one thread per CPU core, at most the CPUs that the "
        "container or the CPU affinity allows.",
        ge=1,
    )
    host: str = _setting(
        "Server",
        "127.0.0.1",
        "IP address or host name on which the servers listen.",
        validation_alias=either_variable("HOST", "BACKEND_HOST"),
    )
    port: int = _setting(
        "Server",
        8080,
        "Port of the HTTP server. 0 selects a free port.",
        ge=0,
        le=65535,
        validation_alias=either_variable("PORT", "BACKEND_PORT"),
    )
    grpc_port: int = _setting("Server", 50051, "Port of the gRPC server. 0 selects a free port.", ge=0, le=65535)
    public_url: str | None = _setting(
        "Server",
        None,
        "URL at which clients reach the HTTP server, e.g. https://latents.example.com. The URLs in /codec/info, "
        "index.json and new maps begin with this URL. By default, the URLs in /codec/info and index.json begin with "
        "the origin of the request, and those in new maps are relative.",
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
    )
    require_pins: bool = _setting(
        "Reproducibility",
        False,
        "Refuse to start if the installed versions of torch, diffusers or transformers differ from the "
        "versions that codec-diffusers pins.",
    )
    image_digest: str | None = _setting(
        "Reproducibility",
        None,
        "Digest of the container image, as [NAME@]sha256:HEX with 64 hex digits. The server reports this digest "
        "in /codec/info, and `golden build` stores it in the manifest of the reference images.",
        pattern=r"^(\S+@)?sha256:[0-9a-f]{64}$",
    )
    lpips_backbone: str | None = _setting(
        "Reproducibility",
        None,
        "File with AlexNet weights for the metric LPIPS, in torchvision's format. The value is a path, or "
        "REPOSITORY:FILE for a file on the Hugging Face Hub.",
    )

    @field_validator(
        "dtype",
        "engine",
        "role",
        "log_level",
        "log_format",
        "device",
        "mode",
        "compile",
        "step_cache",
        "quantization",
        "offload",
        "fast_unmeasured",
        mode="before",
    )
    @classmethod
    def _ignore_case(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return _TORCH_DTYPES.get(value.lower(), value.lower())

    @field_validator("latent_map_sha256")
    @classmethod
    def _with_algorithm(cls, value: str | None) -> str | None:
        return None if value is None else f"sha256:{value.removeprefix('sha256:').lower()}"

    @field_validator("public_url")
    @classmethod
    def _remove_last_slash(cls, value: str | None) -> str | None:
        return None if value is None else value.rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings in order of precedence: first the flags, then the environment variables.

        Variables that are Kubernetes service links are ignored.
        """
        assert isinstance(env_settings, EnvSettingsSource)  # noqa: S101 - pydantic-settings always passes one
        links = {name.lower() for name in service_links(os.environ)}
        env_settings.env_vars = {
            name: value for name, value in env_settings.env_vars.items() if name.lower() not in links
        }
        return init_settings, env_settings


def panel_of(name: str) -> str:
    """Return the heading under which --help lists the flag of the setting `name`."""
    extra = Settings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)  # noqa: S101 - set by _setting
    return str(extra["panel"])


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """Return the settings that `flags` and the environment variables determine.

    `flags` is a dictionary with the values of the flags. The keys of `flags` are the names of the settings fields. A
    flag that was not given has the value None. Raises InvalidSettings if a value is not valid. The error message names
    the setting, the received value and the allowed values.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
    name = str(first["loc"][0]).removeprefix(PREFIX).lower()
    rule = f"must be {_FORMATS[name]}" if first["type"] == "string_pattern_mismatch" else first["msg"]
    raise InvalidSettings(
        f"{PREFIX}{name.upper()} (--{name.replace('_', '-')}): {rule}, got {truncated_repr(first['input'])}"
    )
