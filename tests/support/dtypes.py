"""Dtypes of the tensors of a pipeline."""

from collections.abc import Mapping
from typing import Any

import torch


def dtypes_of(pipeline: Any) -> Mapping[str, torch.dtype]:
    """Return the dtype of every parameter and buffer of a pipeline."""
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {
        f"{name}.{key}": tensor.dtype
        for name, module in modules.items()
        for key, tensor in (*module.named_parameters(), *module.named_buffers())
    }
