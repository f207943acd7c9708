"""Context managers that make a call of a pipeline use the size or the seed of a plan."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from core.plan import StreamPlan


@contextmanager
def seeded(_pipeline: Any, plan: StreamPlan) -> Iterator[None]:
    """Seed torch's global random generator.

    The pipeline class samples the encoded input image with torch's global random generator.
    """
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        yield


@contextmanager
def image_size_of_plan(pipeline: Any, plan: StreamPlan) -> Iterator[None]:
    """Make HunyuanVideo 1.5 generate in the size of `plan`.

    The pipeline class of HunyuanVideo 1.5 has no arguments for the width and height.
    """
    processor = pipeline.video_processor
    processor.calculate_default_height_width = lambda **_arguments: (plan.height, plan.width)
    try:
        yield
    finally:
        del processor.calculate_default_height_width


@contextmanager
def area_of_plan(pipeline: Any, plan: StreamPlan) -> Iterator[None]:
    """Set the default side of the HiDream pipeline `pipeline` so that the pipeline keeps the size of `plan`.

    HiDream scales every size to the area of a square with the default side.
    """
    default = pipeline.default_sample_size
    # Slightly more, because the class rounds the scaled sides down.
    pipeline.default_sample_size = (plan.width * plan.height) ** 0.5 * (1 + 1e-9) / pipeline.vae_scale_factor
    try:
        yield
    finally:
        pipeline.default_sample_size = default


@contextmanager
def resolution_of_plan(pipeline: Any, plan: StreamPlan) -> Iterator[None]:
    """Make Kandinsky 5 generate an image in the size of `plan`, even if the pipeline does not list this size."""
    listed = pipeline.resolutions
    pipeline.resolutions = [(plan.width, plan.height)]
    try:
        yield
    finally:
        pipeline.resolutions = listed
