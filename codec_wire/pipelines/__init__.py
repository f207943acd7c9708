"""The seven pipelines: from latent values to a frame's bytes and back."""

from codec_wire.pipelines.table import PIPELINES, Pipeline, Scales

__all__ = ["PIPELINES", "Pipeline", "Scales"]
