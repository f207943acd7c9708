"""Clean estimates, which are the latents without noise (x0) that the model predicts after a step.

A clean estimate is computed from the arguments and the result of the scheduler's method `step`. The method `step`
itself is not changed.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

EstimateListener = Callable[[int, Callable[[], Tensor]], None]
"""Function of (number of completed steps, function that returns the clean estimate), called after every step.

The clean estimate has the layout of the pipeline's own latents. The function that returns the clean estimate may be
called only before the listener returns.
"""

_Estimate = Callable[[Any, Mapping[str, Any], Any], Tensor]
"""Function of (scheduler after a step, arguments of the step by name, result of the step).

The function returns the clean estimate.
"""


def _returned(_scheduler: Any, _arguments: Mapping[str, Any], result: Any) -> Tensor:
    """Return the clean estimate that the scheduler's method `step` returns as its second value."""
    estimate: Tensor = result[1]
    return estimate


def _from_velocity(scheduler: Any, arguments: Mapping[str, Any], _result: Any) -> Tensor:
    """Return the clean estimate of a flow-matching model: the sample minus sigma times the velocity (arXiv 2210.02747).

    The scheduler's method `step` has already increased the index of sigma by 1.
    """
    sigma = scheduler.sigmas[scheduler.step_index - 1]
    estimate: Tensor = arguments["sample"].float() - sigma * arguments["model_output"].float()
    return estimate


def _from_sigmas(scheduler: Any, arguments: Mapping[str, Any], _result: Any) -> Tensor:
    """Return the clean estimate for a scheduler whose noise levels are sigmas.

    A sample of a scheduler with sigmas is alpha times the clean latents plus sigma times the noise.
    """
    alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[scheduler.step_index - 1])
    return _unmix(scheduler, arguments, alpha, sigma)


def _from_alphas(scheduler: Any, arguments: Mapping[str, Any], _result: Any) -> Tensor:
    """Return the clean estimate for a scheduler with one cumulative product of alphas for each timestep."""
    alpha_squared = scheduler.alphas_cumprod[int(arguments["timestep"])]
    return _unmix(scheduler, arguments, alpha_squared**0.5, (1 - alpha_squared) ** 0.5)


def _unmix(scheduler: Any, arguments: Mapping[str, Any], alpha: Any, sigma: Any) -> Tensor:
    """Return the clean estimate x0, given the model's output and the sample x = alpha * x0 + sigma * noise.

    The description of a sample by `alpha` and `sigma` follows arXiv 2202.00512. The prediction type of the scheduler
    determines whether the model's output is x0, the noise or the velocity.
    """
    sample, output = arguments["sample"].float(), arguments["model_output"].float()
    match scheduler.config.prediction_type:
        case "epsilon":
            estimate: Tensor = (sample - sigma * output) / alpha
        case "v_prediction":
            estimate = alpha * sample - sigma * output
        case "flow_prediction":
            estimate = sample - sigma * output
        case _:  # sample
            estimate = output
    return estimate


_ESTIMATES: dict[str, _Estimate] = {
    **dict.fromkeys(
        (
            "CogVideoXDDIMScheduler",
            "CogVideoXDPMScheduler",
            "DDIMScheduler",
            "DDPMScheduler",
            "EulerAncestralDiscreteScheduler",
            "EulerDiscreteScheduler",
            "HeunDiscreteScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "KDPM2DiscreteScheduler",
            "LCMScheduler",
            "LMSDiscreteScheduler",
        ),
        _returned,
    ),
    **dict.fromkeys(
        (
            "DEISMultistepScheduler",
            "DPMSolverMultistepScheduler",
            "DPMSolverSinglestepScheduler",
            "UniPCMultistepScheduler",
        ),
        _from_sigmas,
    ),
    "FlowMatchEulerDiscreteScheduler": _from_velocity,
    "FlowMatchLCMScheduler": _from_velocity,
    "PNDMScheduler": _from_alphas,
}
"""Functions that compute the clean estimate, as a dictionary by name of the scheduler class."""


def has_estimates(scheduler: Any) -> bool:
    """Return whether clean estimates can be computed for this scheduler."""
    return type(scheduler).__name__ in _ESTIMATES


@contextmanager
def report_estimates(scheduler: Any, listener: EstimateListener) -> Iterator[None]:
    """Call `listener` after every step of `scheduler` in the `with` block.

    `listener` must not request an estimate if has_estimates(scheduler) is False.
    """
    step = scheduler.step
    signature = inspect.signature(step)
    done = 0

    @functools.wraps(step)
    def reporting_step(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        result = step(*args, **kwargs)
        done += 1
        estimate = _ESTIMATES.get(type(scheduler).__name__, _returned)
        listener(done, lambda: estimate(scheduler, signature.bind(*args, **kwargs).arguments, result))
        return result

    scheduler.step = reporting_step
    try:
        yield
    finally:
        del scheduler.step
