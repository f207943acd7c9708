"""Components of a pipeline without weights.

A component without weights keeps its configuration, but uses no memory for weights.
"""

from pathlib import Path
from typing import Any

import torch


def discard_weights(module: Any, device: torch.device) -> None:
    """Replace each parameter of `module` with zeros on `device` that take the memory of only one element.

    The shape and the dtype of each parameter do not change.

    The parameters must exist, because a pipeline reads the dtype and device of the components from the parameters.
    Moving the module to another device would allocate memory for all elements.
    """
    for part in module.modules():
        for name, weights in part._parameters.items():
            if weights is not None:
                zeros = torch.zeros((), dtype=weights.dtype, device=device).expand(weights.shape)
                part._parameters[name] = torch.nn.Parameter(zeros, requires_grad=False)


def build_without_weights(component_class: Any, folder: Path, device: torch.device) -> Any:
    """Return a component of a diffusers class, with the configuration in `folder` and without weights."""
    from accelerate import init_empty_weights  # noqa: PLC0415 - takes seconds

    with init_empty_weights(include_buffers=False):
        module = component_class.from_config(component_class.load_config(folder))
    discard_weights(module, device)
    return module
