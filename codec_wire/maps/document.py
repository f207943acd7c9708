"""The latent-space map document, as defined by version 1 of the published JSON schema."""

import re
from math import prod
from typing import Annotated, Any, Literal, Self

import pydantic_core
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from codec_wire.errors import InvalidMap, truncated_repr
from codec_wire.latents import MAX_VALUES, LatentDtype, Modality
from codec_wire.pipelines import PIPELINES, Pipeline, Scales
from codec_wire.wire_format import WireFormat

LATENT_SPACE_ID = re.compile(r"[a-z0-9._-]+(/[a-z0-9._-]+)*")

MAX_DOCUMENT_BYTES = 1024 * 1024
"""Maximum size of a map in bytes. Real maps have a few kilobytes.

The memory that a parsed map needs is many times larger than the JSON document.
"""

Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


def _require_pipeline(name: str) -> str:
    if name not in PIPELINES:
        raise PydanticCustomError("pipeline", "must be one of {allowed}", {"allowed": ", ".join(PIPELINES)})
    return name


_PipelineName = Annotated[
    str, AfterValidator(_require_pipeline), WithJsonSchema({"type": "string", "enum": list(PIPELINES)})
]


class _MapModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StaticScales(_MapModel):
    """Location of the static scales of an encoding pipeline.

    The file contains one little-endian fp16 number per channel.
    """

    url: str
    hash: Sha256
    size_bytes: int | None = Field(None, ge=2)


class QualityThresholds(_MapModel):
    """Limits on the difference between reference images and images that are decoded from encoded latents."""

    ssim_min: float | None = Field(None, ge=0, le=1)
    psnr_min_db: float | None = None
    lpips_max: float | None = Field(None, ge=0)
    fixture_suite: str | None = None


class MapPipeline(_MapModel):
    """An encoding pipeline that is available for the latent space of the map."""

    name: _PipelineName
    static_scales: StaticScales | None = None
    keyframe_interval_frames: int | None = Field(None, ge=1)
    quality_thresholds: QualityThresholds | None = None

    @property
    def pipeline_spec(self) -> Pipeline:
        """Specification of the encoding pipeline that this entry of the map names."""
        return PIPELINES[self.name]

    @model_validator(mode="after")
    def _check_required_fields(self) -> Self:
        if self.pipeline_spec.scales is Scales.STATIC and self.static_scales is None:
            raise ValueError(f"static_scales is required for pipeline {self.name}")
        if self.pipeline_spec.delta and self.keyframe_interval_frames is None:
            raise ValueError(f"keyframe_interval_frames is required for pipeline {self.name}")
        return self


class Decoder(_MapModel):
    """The VAE that decodes the latents to pixels."""

    family: Literal["torch", "onnx", "ggml", "wgsl"]
    model_class: str
    weights_url: str | None = None
    weights_hash: Sha256 | None = None
    canonical_image: str | None = None


class ZstdDictionary(_MapModel):
    """Location of the zstd dictionary for one wire format and encoding pipeline."""

    format: WireFormat
    pipeline: _PipelineName
    url: str
    hash: Sha256
    size_bytes: int | None = Field(None, ge=1)
    trained_at: str | None = None
    corpus_summary: dict[str, Any] | None = None


class LatentMap(_MapModel):
    """A latent-space map, which describes the latents of a latent space and how to decode the latents.

    `shape` is the shape of one frame at the default size of the model, channels first.
    """

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
    def _check_id(cls, value: str) -> str:
        if not LATENT_SPACE_ID.fullmatch(value) or ".." in value:
            raise ValueError("must match [a-z0-9._/-]+ without '..' and without a '/' at either end")
        return value

    @field_validator("dtype", mode="before")
    @classmethod
    def _refuse_bf16(cls, value: object) -> object:
        if value == "bf16":
            raise ValueError("deployed clients decode bf16 as fp16, so bf16 is not supported")
        return value

    @field_validator("shape")
    @classmethod
    def _check_number_of_values(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if prod(value) > MAX_VALUES:
            raise ValueError(f"must have at most {MAX_VALUES} values")
        return value

    @model_validator(mode="after")
    def _check_pipelines(self) -> Self:
        names = [pipeline.name for pipeline in self.pipelines]
        if "raw" not in names:
            raise ValueError("pipeline raw is required")
        if len(names) != len(set(names)):
            raise ValueError("pipelines must not contain a pipeline twice")
        return self

    def pipeline(self, name: str) -> MapPipeline | None:
        """Return the entry of the encoding pipeline `name`, or None if the map does not contain the entry."""
        for entry in self.pipelines:  # takes less time than a generator
            if entry.name == name:
                return entry
        return None

    def pipelines_for(self, modality: Modality) -> list[MapPipeline]:
        """Return the entries of the encoding pipelines that support `modality`."""
        return [entry for entry in self.pipelines if modality is Modality.VIDEO or not entry.pipeline_spec.video_only]


_OLD_SCHEMA_KEYS = ("space_kind", "decoders")


def parse_map(document: bytes) -> LatentMap:
    """Return the latent-space map in `document`, which is JSON of at most MAX_DOCUMENT_BYTES bytes.

    Raises InvalidMap if a value is not valid. The error message states the key and the value. If the map has the
    previous published schema, the error message mentions an older schema. A map of the previous schema lists pipelines
    as strings, or has a key `decoders` or `space_kind`.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise InvalidMap(f"the latent-space map has {len(document)} bytes, but the maximum is {MAX_DOCUMENT_BYTES}")
    try:
        content = pydantic_core.from_json(document, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidMap(f"the latent-space map is not JSON: {error}") from None
    if isinstance(content, dict):
        old_keys = [key for key in _OLD_SCHEMA_KEYS if key in content]
        pipelines = content.get("pipelines")
        if isinstance(pipelines, list) and any(isinstance(entry, str) for entry in pipelines):
            old_keys.append("pipelines as strings")
        if old_keys:
            raise InvalidMap(
                f"the latent-space map has keys of an older schema ({', '.join(old_keys)}); "
                "convert the map to version 1 of the latent-space-map schema"
            )
    try:
        return LatentMap.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "document"
        received = "" if first["type"] == "missing" else f", got {truncated_repr(first['input'])}"
        raise InvalidMap(f"latent-space map: {key}: {first['msg'].removeprefix('Value error, ')}{received}") from None
