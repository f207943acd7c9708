"""Loading of LoRA weights into the components of a pipeline as a PEFT adapter."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.diffusers_engine.lora_fit import recorded_keys, require_fit


def load_adapter(
    pipeline: Any,
    name: str,
    location: Path | str,
    *,
    label: str,
    allow_pickle: bool,
    allow_partial: bool,
    check: Callable[[Mapping[str, Any]], object] | None = None,
) -> None:
    """Load LoRA weights into `pipeline` as the PEFT adapter `name`.

    `location` is the Path of a file, or a directory or hub id as a str. `label` is its name in messages. Before any
    weight is loaded, `check` is called with a dictionary of the weights by key.

    Raises ModelLoadError if the weights do not fit the model (lora_fit.require_fit). Raises the errors of diffusers if
    the weights cannot be read.
    """
    if isinstance(location, Path):  # diffusers expects the folder and the name of a file as two arguments
        folder, options = str(location.parent), {"weight_name": location.name}
    else:
        folder, options = location, {}
    # diffusers warns about every further adapter, which is intended here.
    with warnings.catch_warnings(action="ignore", category=UserWarning), recorded_keys(pipeline, check) as keys:
        pipeline.load_lora_weights(folder, adapter_name=name, use_safetensors=not allow_pickle or None, **options)
    require_fit(pipeline, name, keys, label, allow_partial=allow_partial)
