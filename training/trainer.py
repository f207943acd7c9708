"""Training loop shared by all stages: learning-rate schedule, optimisation, weight averaging and checkpoints."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from training.checkpoint import load_checkpoint, save_checkpoint
from training.optimizer import Optimizer
from training.progress import ProgressReporter
from training.runtime import select_device, step_rng

CHECKPOINT_INTERVAL, REPORT_INTERVAL = 50, 25


def learning_rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the learning rate: linear warm-up to `peak`, constant, linear decay to peak / 50 over the last third.

    Before the decay, the rate does not depend on `steps`, so a run can still be extended.
    """
    rising, falling = (step + 1) / warmup, (steps - step) / (steps / 3)
    return peak * max(0.02, min(1.0, rising, falling))


class Trainer:
    """Weights being trained, with their optimizer, moving average (EMA) and checkpoint file."""

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        *,
        steps: int,
        learning_rate: float,
        warmup: int,
        decay: float,
        seed: int,
        muon: bool = False,
        weight_decay: bool = True,
        embedding_rate: float = 1.0,
    ) -> None:
        """Prepare to train `model`, which is on its device, up to step `steps`. If `path` exists, resume from it.

        `learning_rate` is the peak rate, `warmup` a number of steps, `decay` the decay of the moving average.
        """
        self.path, self.model = path, model
        self.steps, self.learning_rate, self.warmup, self.seed = steps, learning_rate, warmup, seed
        self.optimizer = Optimizer(
            model, learning_rate, muon=muon, weight_decay=weight_decay, embedding_rate=embedding_rate
        )
        self.average = EMAModel(model.parameters(), decay=decay, foreach=True)
        self._current_rate = 0.0
        self.start, self.loss, self.metrics = 0, 0.0, {"loss": 0.0}
        if (state := load_checkpoint(path, select_device())) is not None:
            model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.load_state_dict(state["average"])
            self.start = state["step"]

    def remaining_steps(self) -> Iterator[tuple[int, np.random.Generator]]:
        """Yield each remaining step with its random generator; call `update` exactly once per step."""
        progress = ProgressReporter(self.path.stem, self.start, self.steps)
        for step in progress.steps():
            self._current_rate = learning_rate_at(step, self.steps, self.learning_rate, self.warmup)
            yield step, step_rng(self.seed, step)
            last = step + 1 == self.steps
            if last or (step + 1) % REPORT_INTERVAL == 0:
                progress.report(step, **self.metrics)
            if last or (step + 1) % CHECKPOINT_INTERVAL == 0:
                self._save(step + 1)

    def update(self, loss: torch.Tensor, **metrics: float) -> None:
        """Backpropagate `loss` and update the weights and their average; `metrics` are shown with the loss."""
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step(self._current_rate)
        self.average.step(self.model.parameters())
        self.loss = loss.item()
        smooth = self.metrics["loss"] or self.loss
        self.metrics = {"loss": smooth + 0.05 * (self.loss - smooth), **metrics}

    def _save(self, step: int) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": step}
        save_checkpoint(self.path, state | {"average": self.average.state_dict()})


def load_averaged_weights(path: Path, model: nn.Module) -> None:
    """Load the averaged weights of the checkpoint at `path` into `model`.

    Raises:
        FileNotFoundError: the checkpoint does not exist.

    """
    state = load_checkpoint(path, select_device())
    if state is None:
        raise FileNotFoundError(f"checkpoint {path} not found; run `python -m training.{path.stem}` first")
    average = EMAModel(model.parameters())
    average.load_state_dict(state["average"])
    average.copy_to(model.parameters())
