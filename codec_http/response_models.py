"""The JSON that is answered, as types: what makes it is what documents it."""

from pydantic import BaseModel, ConfigDict, Field

from core.lifecycle import State


class Answer(BaseModel):
    """Base of all answers: nothing goes out that is not documented."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorDetail(Answer):
    """What was wrong, as OpenAI's clients read it."""

    message: str = Field(description="What was wrong, what came, what is allowed.")
    type: str = Field(description="Kind of error, e.g. invalid_request_error.")
    param: str | None = Field(description="The field at fault, where one is.")
    code: str = Field(description="Name of the error, e.g. invalid_request, not_found, overloaded.")
    supported_modalities: list[str] | None = Field(default=None, description="With status 415: what there is instead.")


class ErrorAnswer(Answer):
    """Every error, on every path."""

    error: ErrorDetail


class RenderedFile(Answer):
    """One picture or video."""

    b64_json: str = Field(description="The file, as base64.")
    seed: int = Field(description="The seed that made it.")


class RenderedAnswer(Answer):
    """Pixels, as OpenAI's clients read them."""

    created: int = Field(description="When it was made, in seconds since 1970.")
    data: list[RenderedFile] = Field(description="As many as n asked for, in the order of their seeds.")
    output_format: str = Field(description="Format of the files: png, jpeg, webp or mp4.")
    size: str = Field(description='Size in pixels, "WIDTHxHEIGHT".')


class ModelAnswer(Answer):
    """One model, as OpenAI's clients read it."""

    id: str
    object: str = "model"
    created: int = Field(default=0, description="Part of the shape; not known here, so 0.")
    owned_by: str = "codec-diffusers"
    latent_space: str = Field(description="Id of its latent space.")


class ModelsAnswer(Answer):
    """The models that are served."""

    object: str = "list"
    data: list[ModelAnswer]


class HealthAnswer(Answer):
    """Whether requests are taken, and what runs."""

    ok: bool
    model: str | None
    latent_space: str | None
    state: State


class LoraAnswer(Answer):
    """One LoRA that is worked into a model."""

    name: str
    scale: float


class ServedModelAnswer(Answer):
    """What a client must know to ask one model."""

    model: str
    model_aliases: list[str]
    modality_supported: list[str]
    latent_space_id: str
    latent_map_url: str
    latent_map_sha256: str
    pipelines: list[str]
    default_size: str = Field(description='In pixels, "WIDTHxHEIGHT".')
    size_multiple: int = Field(description="Sizes are multiples of this, in pixels.")
    max_side: int
    max_frames: int
    temporal_factor: int = Field(description="Pictures that each latent frame of a video after the first decodes to.")
    frame_multiple: int = Field(description="The pictures of a video are 1 more than a multiple of this.")
    forms: list[str] = Field(description="The ways to ask it.")
    loras: list[LoraAnswer]


class InfoAnswer(Answer):
    """What the server is. What a model has to say is absent while it loads."""

    modality_supported: list[str]
    stream_format_supported: list[str]
    compression_supported: list[str]
    rendered_formats: list[str] = Field(description="Formats of rendered pixels; empty where none are rendered.")
    image_pipelines: list[str]
    video_pipelines: list[str]
    latent_space_id: str | None
    latent_map_url: str | None
    latent_map_sha256: str | None
    model: str | None
    codec_version: str
    server: str
    server_version: str
    state: State
    device: str | None = Field(description="Device and arithmetic that the model runs with.")
    versions: dict[str, str] = Field(description="Installed versions of what defines the reference pixels.")
    pin_differences: list[str] = Field(description="What differs from the pinned versions; empty is good.")
    image_digest: str | None = Field(description="Digest of the image this runs in, where it was told.")
    jobs: int = Field(description="Generations in the house, running and waiting.")
    model_aliases: list[str] | None = None
    default_size: str | None = None
    size_multiple: int | None = None
    max_side: int | None = None
    max_steps: int | None = None
    max_frames: int | None = None
    loras: list[LoraAnswer] | None = None
    models: list[ServedModelAnswer] | None = None


class IndexEntry(Answer):
    """One published latent-space map."""

    id: str
    url: str
    hash: str


class IndexAnswer(Answer):
    """What is published here."""

    codec_version: str
    maps: list[str] = Field(description="Token maps; a latent server has none.")
    latents: list[IndexEntry]
