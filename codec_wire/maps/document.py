"""The latent-space map document: the published schema as types."""

import re
from math import prod
from typing import Annotated, Any, Literal, Self

import pydantic_core
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from codec_wire.errors import InvalidMap, truncated_repr
from codec_wire.latents import MAX_VALUES, LatentDtype, Modality
from codec_wire.pipelines import PIPELINES, Pipeline, Scales

LATENT_SPACE_ID = re.compile(r"[a-z0-9._-]+(/[a-z0-9._-]+)*")

Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_PipelineName = Literal["raw", "int8", "int4", "int8-adaptive", "int4-adaptive", "delta+int8", "delta+int4"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StaticScales(_Part):
    """Where the scales of int8 or int4 lie: C fp16 numbers, little-endian."""

    url: str
    hash: Sha256
    size_bytes: int | None = Field(None, ge=2)


class QualityThresholds(_Part):
    """Perceptual bounds that the pipeline keeps against the reference decoder."""

    ssim_min: float | None = Field(None, ge=0, le=1)
    psnr_min_db: float | None = None
    lpips_max: float | None = Field(None, ge=0)
    fixture_suite: str | None = None


class MapPipeline(_Part):
    """One pipeline that the latent space may be sent with."""

    name: _PipelineName
    static_scales: StaticScales | None = None
    keyframe_interval_frames: int | None = Field(None, ge=1)
    quality_thresholds: QualityThresholds | None = None

    @property
    def pipeline_spec(self) -> Pipeline:
        """The pipeline's row in the registry."""
        return PIPELINES[self.name]

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.pipeline_spec.scales is Scales.STATIC and self.static_scales is None:
            raise ValueError(f"pipeline {self.name} needs static_scales")
        if self.pipeline_spec.delta and self.keyframe_interval_frames is None:
            raise ValueError(f"pipeline {self.name} needs keyframe_interval_frames")
        return self


class Decoder(_Part):
    """The VAE that turns these latents into pixels."""

    family: Literal["torch", "onnx", "ggml", "wgsl"]
    model_class: str
    weights_url: str | None = None
    weights_hash: Sha256 | None = None
    canonical_image: str | None = None


class ZstdDictionary(_Part):
    """Where the dictionary for one wire format and pipeline lies."""

    format: Literal["msgpack", "protobuf"]
    pipeline: _PipelineName
    url: str
    hash: Sha256
    size_bytes: int | None = Field(None, ge=1)
    trained_at: str | None = None
    corpus_summary: dict[str, Any] | None = None


class LatentMap(_Part):
    """A latent-space map. `shape` is one frame's at the model's own size, channel first."""

    id: str
    version: Literal["1"]
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=2)
    dtype: LatentDtype
    vae_scale_factor: float | None = Field(None, gt=0, allow_inf_nan=False)
    pipelines: tuple[MapPipeline, ...] = Field(min_length=1)
    decoder: Decoder | None = None
    zstd_dictionaries: tuple[ZstdDictionary, ...] = ()
    published_at: AwareDatetime | None = None

    @field_validator("id")
    @classmethod
    def _is_an_id(cls, value: str) -> str:
        if not LATENT_SPACE_ID.fullmatch(value) or ".." in value:
            raise ValueError("must match [a-z0-9._/-]+ without '..' and without a '/' at either end")
        return value

    @field_validator("dtype", mode="before")
    @classmethod
    def _can_be_sent(cls, value: object) -> object:
        if value == "bf16":
            raise ValueError("bf16 is not served: deployed clients would read it as fp16")
        return value

    @field_validator("shape")
    @classmethod
    def _is_bounded(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if prod(value) > MAX_VALUES:
            raise ValueError(f"holds more than {MAX_VALUES} values")
        return value

    @model_validator(mode="after")
    def _lists_pipelines_once_and_raw(self) -> Self:
        names = [pipeline.name for pipeline in self.pipelines]
        if "raw" not in names:
            raise ValueError("pipeline raw is mandatory")
        if len(names) != len(set(names)):
            raise ValueError("a pipeline is listed twice")
        return self

    def pipeline(self, name: str) -> MapPipeline | None:
        """Return what the map says of that pipeline, None where it does not list it."""
        return next((entry for entry in self.pipelines if entry.name == name), None)

    def pipelines_for(self, modality: Modality) -> list[MapPipeline]:
        """Return those that a request for that modality may name."""
        return [entry for entry in self.pipelines if modality is Modality.VIDEO or not entry.pipeline_spec.video_only]


_OLDER_SHAPE = ("space_kind", "decoders")


def parse_map(document: bytes) -> LatentMap:
    """Return the map that a JSON document holds.

    Raises InvalidMap naming the key at fault, what came and what is allowed; a document of the older published
    shape (string pipelines, `decoders`, `space_kind`) is refused as such.
    """
    try:
        loose = pydantic_core.from_json(document, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidMap(f"the latent-space map is not JSON: {error}") from None
    if isinstance(loose, dict):
        older = [key for key in _OLDER_SHAPE if key in loose]
        pipelines = loose.get("pipelines")
        if isinstance(pipelines, list) and any(isinstance(entry, str) for entry in pipelines):
            older.append("pipelines as strings")
        if older:
            raise InvalidMap(
                f"the latent-space map has an older shape ({', '.join(older)}); "
                "rewrite it after latent-space-map schema version 1"
            )
    try:
        return LatentMap.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        came = "" if first["type"] == "missing" else f", got {truncated_repr(first['input'])}"
        raise InvalidMap(f"latent-space map: {place}: {first['msg']}{came}") from None
