"""Phases of stage 7: first the motions are learned, then the quality of the frames, then pans in rain and snow."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

QUALITY_FROM, FALLING_FROM = 5400, 9500  # steps with which the second and the third phase begin


@dataclass(frozen=True, slots=True)
class Phase:
    """What the steps of a phase contain. Every share is between 0 and 1."""

    small_share: float
    """Share of steps with 16x16 latents. In the others, latents are 32x32."""
    pan_share: float
    """Share of pairs of clips that are always pans, because their direction is the most difficult motion."""
    falling_share: float
    """Share of these pairs that are always pans in rain or snow, which cannot be played backwards."""
    static_share: float
    """Share of the other pairs of clips that always have a camera that does not move."""
    whole_share: Mapping[int, float]
    """Share of steps with all frames of two clips, by the height and width of the latents."""
    high_noise_share: float
    """Share of steps in which clips have more high noise levels than low ones. There the words decide on the motion."""
    movement_weight: float
    """Additional weight of that part of a clip's error which differs between its frames."""
    same_image_weight: float
    """Weight of the change that words for a motion cause in a still image."""


MOTIONS_PHASE = Phase(
    small_share=0.8,
    pan_share=0.25,
    falling_share=0.0,
    static_share=0.0,
    whole_share={16: 0.0, 32: 0.0},
    high_noise_share=0.5,
    movement_weight=8.0,
    same_image_weight=0.0,
)
QUALITY_PHASE = Phase(
    small_share=0.6,
    pan_share=0.3,
    falling_share=0.0,
    static_share=0.4,
    whole_share={16: 0.5, 32: 0.2},
    high_noise_share=0.2,
    movement_weight=4.0,
    same_image_weight=5.0,
)
FALLING_PHASE = replace(
    QUALITY_PHASE,
    small_share=0.3,
    pan_share=0.5,
    falling_share=0.5,
    whole_share={16: 0.5, 32: 0.3},
    high_noise_share=0.5,
)


def phase_at(step: int) -> Phase:
    """Return the phase of the step with the number `step`."""
    if step >= FALLING_FROM:
        return FALLING_PHASE
    return QUALITY_PHASE if step >= QUALITY_FROM else MOTIONS_PHASE
