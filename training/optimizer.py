"""Optimizer of all stages: AdamW, or Muon for hidden weight matrices and AdamW for the rest.

Muon orthogonalises the update of a matrix, so that all its directions are learned at the same rate. A convolution
kernel is treated as the matrix [out_channels, in_channels * height * width]. training/README.md compares AdamW and
Muon.
"""

from typing import Any

import torch
from torch import nn

EMBEDDING = "token_embedding."  # contained in the name of the embeddings of tokens
# Names of layers that read or write data rather than features; Muon is not meant for those.
INPUT_OUTPUT_LAYERS = ("embedding", "conv_in", "conv_out", "motion_words")


def _matrix(kernel: torch.Tensor) -> torch.Tensor:
    """Return `kernel` [out, in, ...] as a matrix [out, columns], without a copy if it is contiguous or channels-last.

    The order of the columns depends on the memory layout. Muon's update does not depend on their order.
    """
    if kernel.ndim == 4 and not kernel.is_contiguous():
        kernel = kernel.permute(0, 2, 3, 1)
    return kernel.flatten(1)


class Optimizer:
    """AdamW, optionally combined with Muon, for those parameters of `model` that require gradients."""

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        *,
        muon: bool,
        weight_decay: bool = True,
        embedding_rate: float = 1.0,
    ) -> None:
        """Use Muon for hidden weight matrices if `muon` is true, AdamW for all other parameters.

        Token embeddings have `embedding_rate` times the learning rate. Without `weight_decay`, a weight whose gradient
        is zero does not change.
        """
        self._kernels: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        embeddings: list[nn.Parameter] = []
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                hidden = muon and weight.ndim >= 2 and not any(part in name for part in INPUT_OUTPUT_LAYERS)
                group = embeddings if EMBEDDING in name else self._kernels if hidden else others
                group.append(weight)
        # torch's Muon accepts only matrices. These are views, so updating a matrix updates its kernel.
        self._matrices = [nn.Parameter(_matrix(weight.data)) for weight in self._kernels]
        self._parts: list[torch.optim.Optimizer] = []
        if self._matrices:
            self._parts.append(
                torch.optim.Muon(
                    self._matrices,
                    lr=learning_rate,
                    weight_decay=0.01 if weight_decay else 0.0,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        groups = [{"params": others, "factor": 1.0}, {"params": embeddings, "factor": embedding_rate}]
        groups = [group for group in groups if group["params"]]
        if groups:
            decay = 1e-3 if weight_decay else 0.0
            self._parts.append(torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), weight_decay=decay))

    def step(self, learning_rate: float) -> None:
        """Update the parameters from their gradients with `learning_rate`, then clear the gradients."""
        for matrix, weight in zip(self._matrices, self._kernels, strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group.get("factor", 1.0)
            part.step()
            part.zero_grad(set_to_none=True)
        for weight in self._kernels:
            weight.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states of the combined optimizers."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore states returned by `state_dict`."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)
