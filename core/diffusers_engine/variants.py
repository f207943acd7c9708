"""The ways to call a loaded model: its own pipeline, and those that can be made of the same parts."""

import inspect
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.diffusers_engine.families import FAMILIES, Family
from core.model import Form

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """A pipeline and the row that says how it is called."""

    pipeline: Any
    family: Family

    @property
    def form(self) -> Form:
        """What a request must be for this way."""
        return self.family.form


def routes_of(pipeline: Any, family: Family) -> Iterator[Route]:
    """Yield the way to call `pipeline`, and those of the rows beside its own. All share its parts, weights included.

    A way that cannot be made of these parts is left out, for the model's own does not depend on it.
    """
    import diffusers  # noqa: PLC0415 - takes seconds

    yield Route(pipeline, family)
    for name in family.beside:
        try:
            made = _made_of_parts(getattr(diffusers, name), pipeline)
        except Exception as error:
            log.warning("the model cannot be called as %s: %s", name, error)
            continue
        yield Route(made, FAMILIES[name])


def _made_of_parts(pipeline_class: type, pipeline: Any) -> Any:
    """Return a pipeline of that class over the parts of another. Where theirs differ, parts may be None."""
    accepted = inspect.signature(pipeline_class).parameters
    given = dict(pipeline.components)
    # Settings of the pipeline itself, beside its parts, e.g. whether it needs a safety checker.
    given |= {name: value for name, value in pipeline.config.items() if name in accepted and name not in given}
    return pipeline_class(**{name: part for name, part in given.items() if name in accepted})


def motion_route(pipeline: Any, adapter: Any) -> Route:
    """Return the way that makes videos of an image pipeline's parts and a motion adapter.

    Its UNet holds the very weights of the image pipeline's, and the adapter's: neither is in memory twice.
    Raises ValueError where the two do not fit.
    """
    from diffusers import AnimateDiffPipeline, UNetMotionModel  # noqa: PLC0415 - takes seconds

    unet = UNetMotionModel.from_unet2d(pipeline.unet, adapter)
    unet.load_state_dict({**pipeline.unet.state_dict(), **adapter.state_dict()}, assign=True)
    accepted = inspect.signature(AnimateDiffPipeline).parameters
    parts = {name: part for name, part in pipeline.components.items() if name in accepted}
    # Its constructor takes a motion UNet as it is.
    video = AnimateDiffPipeline(**parts | {"unet": unet.eval(), "motion_adapter": adapter})
    return Route(video, FAMILIES["AnimateDiffPipeline"])
