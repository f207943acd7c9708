"""The schedulers that a request may select by name instead of the model's own scheduler."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Choice:
    """A scheduler class of diffusers, and the settings that replace settings of the model's own scheduler."""

    scheduler_class: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_DPM = "DPMSolverMultistepScheduler"
DIFFUSION: Mapping[str, Choice] = {
    "ddim": Choice("DDIMScheduler"),
    "ddpm": Choice("DDPMScheduler"),
    "deis": Choice("DEISMultistepScheduler"),
    "dpm++-2m": Choice(_DPM, {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": False}),
    "dpm++-2m-karras": Choice(_DPM, {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}),
    "dpm++-2m-sde": Choice(_DPM, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "use_karras_sigmas": False}),
    "euler": Choice("EulerDiscreteScheduler"),
    "euler-ancestral": Choice("EulerAncestralDiscreteScheduler"),
    "heun": Choice("HeunDiscreteScheduler"),
    "lcm": Choice("LCMScheduler"),
    "pndm": Choice("PNDMScheduler", {"skip_prk_steps": True}),
    "unipc": Choice("UniPCMultistepScheduler"),
}
"""Dictionary of schedulers by name, for models that predict noise, velocity or samples at discrete timesteps."""
FLOW: Mapping[str, Choice] = {
    "flow-euler": Choice("FlowMatchEulerDiscreteScheduler"),
    "flow-lcm": Choice("FlowMatchLCMScheduler"),
}
"""Dictionary of schedulers by name, for models that predict the velocity of a flow."""
SCHEDULERS: Mapping[str, Choice] = {**DIFFUSION, **FLOW}

_DIFFUSION_CLASSES = frozenset(choice.scheduler_class for choice in DIFFUSION.values()) | {
    "DPMSolverSinglestepScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "TCDScheduler",
}


def alternatives(own: Any) -> tuple[str, ...]:
    """Return the names of the schedulers that may replace `own`, the scheduler of a model.

    Schedulers with continuous timesteps (Stable Video Diffusion) and the schedulers of CogVideoX have no alternatives.
    A scheduler that samples a flow has alternatives only if the class name of the scheduler begins with FlowMatch.
    Other scheduler classes that sample a flow have other settings than the FlowMatch classes.
    """
    name, config = type(own).__name__, own.config
    if name.startswith("FlowMatch"):
        return tuple(FLOW)
    is_flow = config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    is_discrete = config.get("timestep_type", "discrete") == "discrete"
    return tuple(DIFFUSION) if name in _DIFFUSION_CLASSES and is_discrete and not is_flow else ()


def new_scheduler(own: Any, name: str | None) -> Any:
    """Return a new scheduler that is called `name` and has the configuration of `own`.

    Without `name`, the new scheduler has the same class as `own`. The scheduler `own` is not changed.
    """
    if name is None:
        return type(own).from_config(own.config)
    import diffusers  # noqa: PLC0415 - takes seconds

    choice = SCHEDULERS[name]
    return getattr(diffusers, choice.scheduler_class).from_config(own.config, **choice.settings)
