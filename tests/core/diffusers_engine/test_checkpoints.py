"""Points inside modules at which a cancelled job stops."""

import pytest
import torch
from torch import nn

from codec_wire.errors import Cancelled
from core.diffusers_engine.checkpoints import checkpoints
from core.engine import Job


class Blocks(nn.Module):
    """A module with a list that contains a block and None, as in diffusers."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity(), None, nn.Identity()])  # type: ignore[list-item]
        self.calls = 0

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            if block is not None:
                values = block(values)
                self.calls += 1
        return values


def test_cancelled_job_stops_before_the_next_block() -> None:
    module, job = Blocks(), Job()
    module.blocks[2].register_forward_pre_hook(lambda *_: job.cancel(Cancelled("the client disconnected")))
    with checkpoints(module, job), pytest.raises(Cancelled):
        module(module(torch.ones(1)))
    assert module.calls == 1
    assert module(torch.ones(1)) == torch.ones(1)  # the hooks are removed


def test_compiled_module_has_no_checkpoints() -> None:
    module, job = Blocks(), Job()
    job.cancel(Cancelled("the client disconnected"))
    module.blocks[0]._compiled_call_impl = module.blocks[0].forward  # as compile() does, which takes seconds
    with checkpoints(module, job):
        assert not module.blocks[0]._forward_pre_hooks
    assert module.calls == 0
