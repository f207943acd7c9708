"""Pydantic models of the JSON responses.

Handlers create responses from the pydantic models. The OpenAPI schemas are also generated from the pydantic models.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from codec_wire.http import DECODE_PATH
from core.lifecycle import State
from core.role import Role
from core.switches import Mode


class ResponseModel(BaseModel):
    """Base of all response models. Response models reject fields that are not documented."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorDetail(ResponseModel):
    """Description of an error, with the keys of OpenAI's API."""

    message: str = Field(description="What is wrong, the received value and the allowed values.")
    type: str = Field(description='Category of the error, e.g. "invalid_request_error".')
    param: str | None = Field(description="Name of the invalid request field or header, or null.")
    code: str = Field(description='Stable error code, e.g. "invalid_request", "not_found" or "overloaded".')
    supported_modalities: list[str] | None = Field(
        default=None,
        description="Modalities that are supported. Only present if the requested modality is not supported.",
    )


class ErrorResponse(ResponseModel):
    """Body of every response with status 400 or higher, except the responses to health checks."""

    error: ErrorDetail


class RenderedFile(ResponseModel):
    """One rendered image or video."""

    b64_json: str = Field(description="The file in base64.")
    seed: int = Field(description="Seed with which the file was generated.")


class RenderedResponse(ResponseModel):
    """Rendered images or videos, with the keys of OpenAI's API."""

    created: int = Field(description="Time of creation in seconds since 1970-01-01 UTC.")
    data: list[RenderedFile] = Field(description="The `n` requested files, in order of their seeds.")
    output_format: str = Field(description="File format: png, jpeg, webp or mp4.")
    size: str = Field(description='Size in pixels as "WIDTHxHEIGHT".')


class ExtraFieldDescription(ResponseModel):
    """A parameter that a model accepts in the field `extra` of requests."""

    name: str = Field(description="Name of the parameter.")
    type: Literal["integer", "number"] = Field(description="Type of the values.")
    minimum: int | float = Field(description="Smallest accepted value.")
    maximum: int | float = Field(description="Largest accepted value.")
    default: int | float = Field(description="The value that has the same result as a request without the parameter.")
    same_as: str | None = Field(
        description="Name of the request field that sets the same scale, so that a request must not contain both, or "
        "null."
    )
    forms: list[str] = Field(description="Combinations of modality and inputs that accept the parameter.")


class ModelResponse(ResponseModel):
    """A served model, with the keys of OpenAI's API."""

    id: str = Field(description="Name of the model, or the alias that was requested.")
    object: str = Field(default="model", description='Always "model".')
    created: int = Field(default=0, description="Always 0: the time of creation is unknown.")
    owned_by: str = Field(default="codec-diffusers", description='Always "codec-diffusers".')
    latent_space: str = Field(description="Id of the model's latent space.")
    forms: list[str] = Field(description="Supported combinations of modality and inputs; empty for a decoder.")
    schedulers: list[str] = Field(
        description="Values of `scheduler` in requests; empty if only the model's own scheduler is available."
    )
    prompt_syntaxes: list[str] = Field(
        description="Values of `prompt_syntax` in requests: plain, and compel if supported."
    )
    available_loras: list[str] | None = Field(
        description="Values of `name` in the field `loras` of requests. Null if requests must not contain `loras`."
    )
    extra: list[ExtraFieldDescription] = Field(
        description="Parameters that the field `extra` of requests may contain. Empty if the model accepts none."
    )


class ModelListResponse(ResponseModel):
    """The served models, with the keys of OpenAI's API."""

    object: str = Field(default="list", description='Always "list".')
    data: list[ModelResponse] = Field(description="The models; the first one is the default.")


class HealthResponse(ResponseModel):
    """State of the server and of its default model."""

    ok: bool = Field(description="Whether the server accepts requests.")
    model: str | None = Field(description="Name of the default model, or null while it is loading.")
    latent_space: str | None = Field(description="Id of the default model's latent space, or null while it is loading.")
    state: State = Field(description="State of the server.")


class LoraDescription(ResponseModel):
    """LoRA weights that are loaded into a model."""

    name: str = Field(description="Name of the weights.")
    scale: float = Field(description="Weight with which the LoRA weights are applied.")


class PixelCheckDescription(ResponseModel):
    """Comparison of decoded latents with the pixels that a diffusers pipeline of the model returns."""

    pipeline: str = Field(description="Class of the pipeline.")
    vae: str = Field(description="Class of the pipeline's VAE.")
    max_difference: int | None = Field(
        description="Largest difference of two values, in 8-bit levels. Null if the pixels could not be compared."
    )
    tolerance: int = Field(description="Largest allowed difference, in 8-bit levels.")
    reason: str | None = Field(description="Why the pixels could not be compared. Null if they were compared.")


class DistanceDescription(ResponseModel):
    """Measured distance between images in fast mode and the images of the same requests in reference mode.

    Each metric has the worst value of all measured images.
    """

    ssim: float = Field(description="Structural similarity; 1 for identical images.")
    psnr_db: float | None = Field(description="Peak signal-to-noise ratio in dB. Null for identical images.")
    lpips: float | None = Field(description="Learned perceptual distance. Null if it was not measured.")


class DecoderDescription(ResponseModel):
    """An exported decoder of the latent space, for clients without torch, such as browsers."""

    family: str = Field(description='Format of the file: "onnx".')
    url: str = Field(description="URL of the file, absolute or relative to the server.")
    hash: str = Field(description="sha256:<hex> of the file.")
    size_bytes: int = Field(description="Size of the file in bytes.")


class ModelDescription(ResponseModel):
    """Capabilities of a served model that a client must know to use the model."""

    model: str = Field(description="Name of the model.")
    model_aliases: list[str] = Field(description="Other names that requests may use for the model.")
    role: Role = Field(
        description="Role of the server for the model: all, decoder (only decodes and encodes latents) or "
        "generator (only generates latents)."
    )
    modality_supported: list[str] = Field(description="Modalities that the model generates; empty for a decoder.")
    latent_space_id: str = Field(description="Id of the latent space.")
    latent_map_url: str = Field(description="URL of the latent-space map, absolute or relative to the server.")
    latent_map_sha256: str = Field(description="sha256:<hex> of the latent-space map.")
    latent_rgb_url: str | None = Field(
        description="URL of a matrix that converts latents to approximate RGB values, for previews without a VAE. Null "
        "if the server has no such matrix."
    )
    decoders: list[DecoderDescription] = Field(
        description="Exported decoders for latents with the map `latent_map_sha256`. Empty if no decoder was exported."
    )
    pipelines: list[str] = Field(description="Pipelines that the latent-space map lists.")
    default_size: str = Field(description='Default size in pixels as "WIDTHxHEIGHT".')
    size_multiple: int = Field(description="Width and height must be multiples of this number of pixels.")
    max_side: int = Field(description="Maximum width and height in pixels.")
    max_frames: int = Field(description="Maximum number of frames of a video.")
    temporal_factor: int = Field(
        description="Number of video frames per latent frame, except the first latent frame, which decodes to "
        "one video frame."
    )
    frame_multiple: int = Field(
        description="The number of frames of a video must be 1 more than a multiple of this number."
    )
    forms: list[str] = Field(description="Supported combinations of modality and inputs.")
    schedulers: list[str] = Field(
        description="Values of `scheduler` in requests; empty if only the model's own scheduler is available."
    )
    prompt_syntaxes: list[str] = Field(
        description="Values of `prompt_syntax` in requests: plain, and compel if supported."
    )
    extra: list[ExtraFieldDescription] = Field(
        description="Parameters that the field `extra` of requests may contain. Empty if the model accepts none."
    )
    decodes: bool = Field(description=f"Whether {DECODE_PATH} decodes latents of the model's latent space.")
    loras: list[LoraDescription] = Field(description="LoRA weights that are loaded into the model.")
    available_loras: list[str] | None = Field(
        description="Values of `name` in the field `loras` of requests. Null if requests must not contain `loras`."
    )
    pixel_checks: list[PixelCheckDescription] = Field(
        description="Comparisons of decoded latents with the pixels of the model's own pipelines, made when "
        "the model was loaded. Empty if they are unknown, for example for a gateway."
    )
    mode: Mode = Field(description="Mode in which the model generates: reference or fast.")
    switches: list[str] = Field(description="Switches of fast mode that are on. Empty in reference mode.")
    distance: DistanceDescription | None = Field(
        description="Measured distance of fast mode, with these switches, from reference mode. Null in reference mode, "
        "and if the distance was not measured."
    )


class InfoResponse(ResponseModel):
    """Capabilities, state and software versions of the server.

    The fields of this object that describe a model refer to the default model. The field `models` describes every
    model. While the server is loading, the fields that describe models are null, empty or absent.
    """

    modality_supported: list[str] = Field(description="Modalities that the models generate; empty for a decoder.")
    stream_format_supported: list[str] = Field(description="Values of `stream_format`.")
    compression_supported: list[str] = Field(description="Content codings of responses, in order of preference.")
    rendered_formats: list[str] = Field(
        description="File formats of rendered images and videos. Empty if the server cannot render."
    )
    image_pipelines: list[str] = Field(description="Pipelines for images of the default image model.")
    video_pipelines: list[str] = Field(description="Pipelines for videos of the default video model.")
    latent_space_id: str | None = Field(description="Id of the latent space.")
    latent_map_url: str | None = Field(description="URL of the latent-space map, absolute or relative to the server.")
    latent_map_sha256: str | None = Field(description="sha256:<hex> of the latent-space map.")
    model: str | None = Field(description="Name of the default model.")
    codec_version: str = Field(description="Version of the Codec protocol.")
    server: str = Field(description='Name of the software: "codec-diffusers".')
    server_version: str = Field(description="Version of the software.")
    state: State = Field(description="State of the server.")
    device: str | None = Field(
        description='Device and precision on which the default model runs, e.g. "cpu fp32, 2 threads".'
    )
    versions: dict[str, str] = Field(description="Installed versions of the libraries that affect the pixels.")
    pin_differences: list[str] = Field(
        description="Differences between the installed versions and the pinned reference versions. Empty if "
        "all versions are equal."
    )
    image_digest: str | None = Field(description="Digest of the container image, or null if unknown.")
    jobs: int = Field(
        description="Number of active generations, which are queued, running or being sent to their clients."
    )
    latent_rgb_url: str | None = Field(default=None, description="URL of the latent-to-RGB matrix, or null.")
    decoders: list[DecoderDescription] | None = Field(
        default=None,
        description="Exported decoders for the latents of the default model. Empty if no decoder was exported.",
    )
    model_aliases: list[str] | None = Field(default=None, description="Other names of the default model.")
    role: Role | None = Field(default=None, description="Role of the default model: all, decoder or generator.")
    default_size: str | None = Field(default=None, description='Default size in pixels as "WIDTHxHEIGHT".')
    size_multiple: int | None = Field(
        default=None, description="Width and height must be multiples of this number of pixels."
    )
    max_side: int | None = Field(default=None, description="Maximum width and height in pixels.")
    max_steps: int | None = Field(default=None, description="Maximum number of sampling steps.")
    max_frames: int | None = Field(default=None, description="Maximum number of frames of a video.")
    loras: list[LoraDescription] | None = Field(default=None, description="LoRA weights of the default model.")
    mode: Mode | None = Field(default=None, description="Mode in which the default model generates: reference or fast.")
    switches: list[str] | None = Field(default=None, description="Switches of fast mode that are on.")
    distance: DistanceDescription | None = Field(
        default=None,
        description="Measured distance of the default model's fast mode from reference mode. Null if the distance was "
        "not measured.",
    )
    models: list[ModelDescription] | None = Field(default=None, description="Every model; the first is the default.")


class IndexEntry(ResponseModel):
    """A published latent-space map."""

    id: str = Field(description="Id of the latent space.")
    url: str = Field(description="URL of the latent-space map, absolute or relative to the server.")
    hash: str = Field(description="sha256:<hex> of the latent-space map.")
    rgb_url: str | None = Field(description="URL of the latent-to-RGB matrix; null if the map has no matrix.")


class IndexResponse(ResponseModel):
    """The latent-space maps that the server publishes."""

    codec_version: str = Field(description="Version of the Codec protocol.")
    maps: list[str] = Field(description="Token maps. Always empty on a latent server.")
    latents: list[IndexEntry] = Field(description="The latent-space maps.")
