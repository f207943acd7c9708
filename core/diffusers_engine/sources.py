"""Where models come from, as the settings name them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from codec_pixels.known_models import EMBEDDED, is_embedded
from codec_wire.errors import ModelLoadError
from core.diffusers_engine.loras import LoraSource, parse_loras
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from: `name` is a hub id or a directory, `factory` a module:function; one may be None.

    `models_dir` is looked into for a directory of that name; `latent_space` overrides the id the model would get;
    `loras` are added to it; with `motion_adapter`, the folder of one, its parts make videos too.
    """

    name: str | None
    factory: str | None
    models_dir: Path
    latent_space: str | None = None
    allow_pickle: bool = False
    loras: tuple[LoraSource, ...] = ()
    motion_adapter: Path | None = None

    @property
    def what(self) -> str:
        """What it is called in messages."""
        return self.name or self.factory or ""


def sources_of(settings: Settings) -> list[ModelSource]:
    """Return the models that `settings` name, the one for requests that name none first.

    None named: the embedded one. Raises InvalidSettings.
    """
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
                parse_loras(settings.loras),
            )
        )
    if settings.video_model is not None:
        video = ModelSource(settings.video_model, None, settings.models_dir, allow_pickle=settings.allow_pickle)
        place = Path(place_of(video))
        if sources and _is_motion_adapter(place):
            sources[0] = replace(sources[0], motion_adapter=place)
        else:
            sources.append(video)
    return sources


def _is_motion_adapter(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_bytes()).get("_class_name") == "MotionAdapter"


def place_of(source: ModelSource) -> str:
    """Return the directory or hub id that `source` names. Raises ModelLoadError where it can be neither."""
    name = str(source.name)
    if is_embedded(name):
        return str(EMBEDDED.folder)
    for directory in (Path(name), source.models_dir / name):
        if directory.is_dir():
            return str(directory)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelLoadError(f"there is no directory {name!r}, here or below {source.models_dir}, and it is no hub id")
    return name
