"""How weights move: AdamW, or Muon on the matrices and filters inside a network and AdamW on everything else.

Muon makes the step of a matrix orthogonal, so that all of its directions learn alike; a filter counts as the matrix
of its output channels. On the denoiser it reached in 200 steps
what AdamW reached in 250 (training/README.md).
"""

from typing import Any

import torch
from torch import nn

OUTSIDE = ("embedding", "conv_in", "conv_out")  # parts of the names of weights that meet data, not features


class Optimizer:
    """AdamW, and Muon where it is asked for, as one, over the weights of `model` that are trained."""

    def __init__(self, model: nn.Module, rate: float, *, muon: bool) -> None:
        self._filters: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                inside = muon and weight.ndim >= 2 and not any(part in name for part in OUTSIDE)
                (self._filters if inside else others).append(weight)
        # Views: Muon takes matrices alone, and what it does to a view it does to the filter.
        self._matrices = [nn.Parameter(weight.data.flatten(1)) for weight in self._filters]
        self._parts: list[torch.optim.Optimizer] = []
        if self._matrices:
            self._parts.append(
                torch.optim.Muon(self._matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
            )
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=1e-3))

    def step(self, rate: float) -> None:
        """Make one step of learning rate `rate` along the gradients, and clear them."""
        for matrix, weight in zip(self._matrices, self._filters, strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)
        for weight in self._filters:
            weight.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of every part."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take what state_dict gave."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)
