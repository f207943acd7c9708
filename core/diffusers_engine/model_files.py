"""Lookup of a model's files in a local directory, or download of these files from the Hugging Face Hub."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.diffusers_engine.families import Family, family_named
from core.diffusers_engine.hub import INDEX, hub_access, repository_files
from core.diffusers_engine.precision import DENOISERS
from core.diffusers_engine.sources import ModelSource, locate_model
from core.diffusers_engine.weight_variants import choose_variant

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a pipeline in a local directory. The directory has the layout that `save_pretrained` writes."""

    folder: Path
    variant: str | None
    """Variant of the weights to load (such as fp16), or None for the default weights."""
    family: Family
    arguments: Mapping[str, Any]
    """Arguments of `from_pretrained`.

    `arguments` contains the load arguments of the family, and the value None for each component that is not loaded.
    """


def fetch_model(source: ModelSource) -> ModelFiles:
    """Return the files of `source`.

    The field `source.name` must be set. Files on the hub that are not cached are downloaded. Raises ModelLoadError if
    the pipeline class is not in the family table or the variant does not exist. Raises HubError if the repository
    cannot be used. Raises the errors of diffusers if a file is not valid.
    """
    location = locate_model(source)
    folder = Path(location)
    if folder.is_dir():
        paths = (path.relative_to(folder).as_posix() for path in folder.glob("*/*"))
        variant, family, arguments = _read_index(source, folder, paths)
        return ModelFiles(folder, variant, family, arguments)
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - takes seconds
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - installed with diffusers

    with hub_access(location, "use --model with the directory of a local copy") as local_files_only:
        # The family and the variant are checked before the weights are downloaded.
        index = Path(hf_hub_download(location, INDEX, local_files_only=local_files_only))
        files = repository_files(location, local_files_only=local_files_only)
        variant, family, arguments = _read_index(source, index.parent, files)
        replaced = replaced_denoisers(source, DiffusionPipeline.load_config(index.parent))
        downloaded = DiffusionPipeline.download(
            location,
            variant=variant,
            use_safetensors=not source.allow_pickle or None,
            local_files_only=local_files_only,
            **arguments,
            **dict.fromkeys(replaced),
        )
        for name in replaced:
            hf_hub_download(location, f"{name}/config.json", local_files_only=local_files_only)
    return ModelFiles(Path(downloaded), variant, family, arguments)


def replaced_denoisers(source: ModelSource, index: Iterable[str]) -> list[str]:
    """Return the names of those components in `index` that take their weights from the GGUF file of `source`."""
    names = [name for name in DENOISERS if name in index]
    return names[:1] if source.switches.gguf is not None else []


def _read_index(
    source: ModelSource, folder: Path, paths: Iterable[str]
) -> tuple[str | None, Family, Mapping[str, Any]]:
    """Return the variant, the family and the arguments of `from_pretrained` for the pipeline in `folder`.

    `paths` contains the paths of all files of the pipeline, relative to the root of the pipeline.
    """
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - takes seconds

    index = DiffusionPipeline.load_config(folder)
    family = family_named(index.get("_class_name"), source.label)
    # A model that was saved without a component, e.g. Stable Diffusion 3 without T5, loads only with an explicit None.
    absent = {name: None for name, part in index.items() if isinstance(part, list | tuple) and set(part) == {None}}
    arguments = absent | dict(family.load_arguments)
    components = index.keys() - {name for name, value in arguments.items() if value is None}
    variant = choose_variant(source.label, paths, components, source.variant, allow_pickle=source.allow_pickle)
    if variant is not None:
        log.info("loading the variant %s of the weights of %s", variant, source.label)
    return variant, family, arguments
