"""What every stage shares: a descent that shows its progress, is saved now and then, and resumes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from training.machine import device, step_rng
from training.optimizer import Optimizer
from training.progress import Meter
from training.state import load_state, save_state

SAVE_EVERY, NOTE_EVERY = 200, 25


def rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the learning rate: up in a line, level, then over the last third down in a line to a fiftieth.

    While it is level, a run knows nothing of its end: given more steps, it goes on as if it always had had them.
    """
    up, left = (step + 1) / warmup, (steps - step) / (steps / 3)
    return peak * max(0.02, min(1.0, up, left))


class Run:
    """The weights that a stage trains, with optimizer, running average and state on disk."""

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        *,
        steps: int,
        rate: float,
        warmup: int,
        decay: float,
        seed: int,
        muon: bool = False,
    ) -> None:
        """Go on from the state at `path`, if any, to step `steps`; `model` is on its device already."""
        self.path, self.model = path, model
        self.steps, self.rate, self.warmup, self.seed = steps, rate, warmup, seed
        self.optimizer = Optimizer(model, rate, muon=muon)
        self.average = EMAModel(model.parameters(), decay=decay, foreach=True)
        self._rate = 0.0
        self.start, self.loss, self.noted = 0, 0.0, {"loss": 0.0}
        if (state := load_state(path, device())) is not None:
            model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.load_state_dict(state["average"])
            self.start = state["step"]

    def rounds(self) -> Iterator[tuple[int, np.random.Generator]]:
        """Yield each step still to be made and its random numbers; call `descend` once for each."""
        meter = Meter(self.path.stem, self.start, self.steps)
        for step in meter.steps():
            self._rate = rate_at(step, self.steps, self.rate, self.warmup)
            yield step, step_rng(self.seed, step)
            last = step + 1 == self.steps
            if last or (step + 1) % NOTE_EVERY == 0:
                meter.note(step, **self.noted)
            if last or (step + 1) % SAVE_EVERY == 0:
                self._save(step + 1)

    def descend(self, loss: torch.Tensor, **notes: float) -> None:
        """Make one step down `loss`; `notes` are shown beside it."""
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step(self._rate)
        self.average.step(self.model.parameters())
        self.loss = loss.item()
        smooth = self.noted["loss"] or self.loss
        self.noted = {"loss": smooth + 0.05 * (self.loss - smooth), **notes}

    def _save(self, step: int) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": step}
        save_state(self.path, state | {"average": self.average.state_dict()})


def load_average(path: Path, model: nn.Module) -> None:
    """Give `model` the averaged weights of the run saved at `path`."""
    state = load_state(path, device())
    if state is None:
        raise FileNotFoundError(f"{path} is missing: that stage has not been trained yet")
    average = EMAModel(model.parameters())
    average.load_state_dict(state["average"])
    average.copy_to(model.parameters())
