"""The server's settings: CODEC_* variables, and command-line flags of the same names, which win."""

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from codec_wire.errors import InvalidSettings, truncated_repr

PREFIX = "CODEC_"


def _also(name: str, sibling: str) -> AliasChoices:
    """Return the variables of a setting that the sibling servers call by another name."""
    return AliasChoices(f"{PREFIX}{name}", f"{PREFIX}{sibling}")


class Settings(BaseSettings):
    """Every setting, with its default. Each is the variable CODEC_<NAME> and the flag --<name>."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, populate_by_name=True
    )

    model: str | None = Field(
        None,
        validation_alias=_also("MODEL", "INITIAL_MODEL"),
        description="Hub id, or directory, of a diffusers pipeline. Default: `embedded`, the model that ships with the "
        "project.",
    )
    pipeline: str | None = Field(
        None, description="module:function that returns a diffusers pipeline, instead of a model that is loaded."
    )
    video_model: str | None = Field(
        None,
        description="Hub id, or directory, of a diffusers pipeline that makes videos beside the model; or directory of "
        "a MotionAdapter, with which the model's own parts make them.",
    )
    loras: str | None = Field(None, description="LoRA weights added to the model: path:scale,path:scale,...")
    latent_space: str | None = Field(
        None,
        validation_alias=_also("LATENT_SPACE", "INITIAL_LATENT_SPACE"),
        description="Id of the model's latent space. Default: the published one, or one after the model's name.",
    )
    models_dir: Path = Field(Path("/models"), description="Where local models and latent-space maps lie.")
    calibration_images: int = Field(
        12,
        ge=0,
        description="Images generated once, for a model without a latent-space map, to choose the scales of int8 and "
        "int4 and to train dictionaries; a quarter is held out to judge them. 0: none, and the map has none of it.",
    )
    allow_pickle: bool = Field(False, description="Also read weights that are not safetensors. They can run code.")
    device: str = Field("auto", description="torch device: auto, cpu, cuda, cuda:1, ...")
    dtype: Literal["auto", "fp16", "bf16", "fp32"] = Field(
        "auto", description="What the model computes in. auto: fp16 on a GPU, fp32 on a CPU."
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of the model. Default: one per core.")
    host: str = Field("127.0.0.1", description="Address that both servers listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the HTTP facade; 0 takes a free one.")
    grpc_port: int = Field(50051, ge=0, le=65535, description="Port of the gRPC server; 0 takes a free one.")
    upstream: str | None = Field(None, description="HOST:PORT of the gRPC server behind a gateway.")
    max_jobs: int = Field(32, ge=1, description="Generations in the house at once, running and waiting.")
    max_cost: int = Field(
        10_000_000_000, ge=1, description="Sum of their costs at the most, in pixels x frames x steps."
    )
    request_timeout_s: float = Field(600, gt=0, description="Seconds after which a generation is given up.")
    drain_timeout_s: float = Field(30, ge=0, description="Seconds that running generations get when stopping.")
    require_pins: bool = Field(
        False, description="Refuse to start where torch, diffusers or transformers are not the pinned versions."
    )
    image_digest: str | None = Field(
        None,
        pattern=r"^(\S+@)?sha256:[0-9a-f]{64}$",
        description="Digest of the image that this runs in, given back in /codec/info and in golden manifests.",
    )
    lpips_backbone: str | None = Field(
        None,
        description="AlexNet's weights for LPIPS, torchvision's file: a path, or REPOSITORY:FILE on the hub.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """Return the settings of the environment, with `flags` (by field name, None for not given) over them.

    Raises InvalidSettings naming the setting at fault, what came and what is allowed.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
    name = str(first["loc"][0]).removeprefix(PREFIX).lower()
    raise InvalidSettings(
        f"{PREFIX}{name.upper()} (--{name.replace('_', '-')}): {first['msg']}, got {truncated_repr(first['input'])}"
    )


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a warning for each CODEC_* variable that is no setting, with the nearest setting where one is near.

    It is no error: supervisors set variables of their own.
    """
    known = [name.removeprefix(PREFIX) for name in _variables()]
    warnings = []
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) in known:
            continue
        near = get_close_matches(name.removeprefix(PREFIX), known, n=1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        warnings.append(f"{name} is no setting and is ignored{hint}")
    return warnings


def _variables() -> Iterable[str]:
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            yield from (str(choice) for choice in alias.choices)
        else:
            yield f"{PREFIX}{name.upper()}"
