"""The seven pipelines: from latent values to a frame's bytes and back."""

from core.pipelines.table import PIPELINES, Pipeline, Scales

__all__ = ["PIPELINES", "Pipeline", "Scales"]
