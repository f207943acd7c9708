"""The models that the settings name, and the lookup of the files of these models."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from codec_pixels.known_models import EMBEDDED, is_embedded
from codec_wire.errors import InvalidSettings, ModelLoadError
from core.diffusers_engine.loras import LoraSource, parse_loras
from core.lora_directory import LoraDirectory
from core.role import Role
from core.settings import Settings
from core.switches import Mode, Switches, switches_of


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Origin of a model: either the field `name`, or a function in the field `factory` that returns the pipeline.

    If `name` and `factory` are both set, `factory` is used.
    """

    name: str | None
    """Hub id or directory of a pipeline, or a single safetensors file."""
    factory: str | None
    """Function that returns a pipeline, written in the form MODULE:FUNCTION."""
    models_dir: Path
    """Directory that is searched for a directory or file called `name`."""
    latent_space: str | None = None
    """Id of the latent space, or None for the default of the model."""
    allow_pickle: bool = False
    """Whether to load weights that are not safetensors."""
    loras: tuple[LoraSource, ...] = ()
    allow_partial_loras: bool = False
    """Whether to apply LoRA weights of which only a part fits the model."""
    lora_directory: LoraDirectory | None = None
    """Directory of the LoRA weights that requests may name."""
    motion_adapter: Path | None = None
    """Folder of a MotionAdapter. An image model with a MotionAdapter can also generate videos."""
    variant: str | None = None
    """Variant of the weights, such as fp16.

    The value None selects the default weights. If the model has no default weights, None selects the only variant.
    """
    role: Role = Role.ALL
    """Role of the server: only to generate, only to decode and encode, or both. The role determines which components
    are loaded."""
    switches: Switches = field(default_factory=Switches)
    """The switches of fast mode that the settings select for this model."""
    is_fast: bool = False
    """Whether the model runs in fast mode."""

    @property
    def label(self) -> str:
        """Name of the model in log lines and messages."""
        return self.name or self.factory or ""


def model_sources(settings: Settings, role: Role = Role.ALL) -> list[ModelSource]:
    """Return the models that are named in `settings`, with the default model first.

    If `settings` contains no model, the embedded model is returned. `settings.variant` applies only to the default
    model. With Role.DECODER, LoRA weights are ignored, because LoRA weights change only the denoiser. Raises
    InvalidSettings if CODEC_LORAS is malformed, or if the directory CODEC_LORA_DIR does not exist. Raises
    InvalidSettings if a switch of fast mode is set in reference mode, or if a factory function (--pipeline) is combined
    with a variant or with Role.DECODER. Raises ModelLoadError if the video model is not found.
    """
    if role is Role.DECODER and settings.pipeline is not None:
        raise InvalidSettings(
            "CODEC_ROLE=decoder (--role) cannot be used with --pipeline: "
            "a server with this role loads only parts of --model"
        )
    if settings.variant is not None and settings.pipeline is not None:
        raise InvalidSettings(
            "CODEC_VARIANT (--variant) cannot be used with --pipeline: a variant selects weight files of --model"
        )
    sources = []
    name = settings.model
    if is_embedded(name) or (name, settings.pipeline, settings.video_model) == (None, None, None):
        name = EMBEDDED.name
    if name is not None or settings.pipeline is not None:
        sources.append(
            ModelSource(
                name,
                settings.pipeline,
                settings.models_dir,
                settings.latent_space,
                settings.allow_pickle,
                () if role is Role.DECODER else parse_loras(settings.loras),
                settings.partial_loras,
            )
        )
    if settings.video_model is not None:
        video = ModelSource(settings.video_model, None, settings.models_dir, allow_pickle=settings.allow_pickle)
        location = Path(locate_model(video))
        if sources and _is_motion_adapter(location):
            sources[0] = replace(sources[0], motion_adapter=location)
        else:
            sources.append(video)
    sources[0] = replace(sources[0], variant=settings.variant)
    switches, is_fast = switches_of(settings), Mode(settings.mode) is Mode.FAST
    loras = None
    if settings.lora_dir is not None:
        if role is not Role.DECODER and not settings.lora_dir.is_dir():
            raise InvalidSettings(
                f"CODEC_LORA_DIR (--lora-dir): must be an existing directory, got {str(settings.lora_dir)!r}"
            )
        loras = LoraDirectory(settings.lora_dir, settings.lora_cache_bytes)
    return [replace(source, role=role, switches=switches, is_fast=is_fast, lora_directory=loras) for source in sources]


def _is_motion_adapter(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_bytes()).get("_class_name") == "MotionAdapter"


def locate_model(source: ModelSource) -> str:
    """Return the directory, file or hub id of `source`.

    Raises ModelLoadError if `source.name` is not the name of a directory or file and cannot be a hub id.
    """
    name = str(source.name)
    if is_embedded(name):
        return str(EMBEDDED.folder)
    for path in (Path(name), source.models_dir / name):
        if path.is_dir() or (path.is_file() and path.suffix == ".safetensors"):
            return str(path)
        if path.is_file():
            raise ModelLoadError(f"{path} is not a model: a single file must be a .safetensors file")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelLoadError(
            f"{name!r} is neither a directory nor a .safetensors file (also searched in {source.models_dir}), and it "
            "is not a hub id (owner/name)"
        )
    return name
