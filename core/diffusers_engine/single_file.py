"""Loading of a checkpoint that is a single safetensors file.

The names of the weights in the file are the original names from the publication of the model, not the names of
diffusers.
"""

from pathlib import Path
from typing import Any

from codec_wire.errors import ModelLoadError
from core.diffusers_engine.families import Family, family_named
from core.diffusers_engine.hub import INDEX, hub_access
from core.diffusers_engine.sources import ModelSource

_CONFIGURATION = ["*.json", "*.txt", "*.model"]
"""Patterns that match the configuration files of a pipeline, but not the files with weights.

The patterns also match files in subfolders.
"""


def load_single_file(source: ModelSource, file: Path, dtype: Any) -> tuple[Any, Family]:
    """Return (pipeline, family) of the checkpoint `file`, loaded by `from_single_file` with the torch dtype `dtype`.

    The pipeline class and the configuration are read from a pipeline directory next to the file (see
    local_configuration). If there is no pipeline directory next to the file, the class and the configuration are read
    from a hub repository. The library diffusers infers the hub repository from the keys of the checkpoint. Raises
    ModelLoadError if the pipeline class is not supported. Raises HubError if the hub repository cannot be used. Raises
    the errors of diffusers if the checkpoint cannot be loaded.
    """
    import diffusers  # noqa: PLC0415 - takes seconds

    if source.variant is not None:
        raise ModelLoadError(f"{source.label} is a single file, which has no variants: remove --variant")
    folder = configuration_of(file)
    index = diffusers.DiffusionPipeline.load_config(folder)
    family = family_named(index.get("_class_name"), source.label)
    pipeline_class = getattr(diffusers, index["_class_name"])
    pipeline = pipeline_class.from_single_file(file, config=str(folder), dtype=dtype, **family.load_arguments)
    return pipeline, family


def configuration_of(file: Path) -> Path:
    """Return the directory with the configuration of the checkpoint `file`.

    A configuration that is not next to the checkpoint is downloaded.
    """
    return local_configuration(file) or _download_configuration(file)


def local_configuration(file: Path) -> Path | None:
    """Return the directory with the configuration of the checkpoint `file`, or None.

    The first choice for the configuration is the directory that has the name of the file without the suffix. The second
    choice for the configuration is the directory that contains the file. The directory of the configuration must
    contain a pipeline. Weights in the directory of the configuration are not used.
    """
    return next((folder for folder in (file.with_suffix(""), file.parent) if (folder / INDEX).is_file()), None)


def _download_configuration(file: Path) -> Path:
    """Return the directory of the configuration that diffusers infers for `file`.

    A configuration that is not cached is downloaded.
    """
    from diffusers.loaders.single_file_utils import (  # noqa: PLC0415 - takes seconds
        fetch_diffusers_config,
        load_single_file_checkpoint,
    )
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - installed with diffusers

    repository = fetch_diffusers_config(load_single_file_checkpoint(str(file)))["pretrained_model_name_or_path"]
    remedy = (
        f"the checkpoint needs the configuration of {repository}: copy its model_index.json and the JSON and text "
        f"files in its subfolders to {file.with_suffix('')}/"
    )
    with hub_access(repository, remedy) as local_files_only:
        return Path(snapshot_download(repository, allow_patterns=_CONFIGURATION, local_files_only=local_files_only))
