"""From latents that a model made to the map of its latent space: scales, dictionaries that win, what was measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from codec_maps.bodies import Body, body_of, pipelines_for
from codec_maps.body_sizes import BodySizes, mean_of, measure
from codec_maps.corpus import Sample
from codec_maps.dictionaries import train
from codec_maps.document import Dictionary
from codec_maps.scales import Quality, static_scales
from codec_maps.scales import measure as measure_quality
from codec_wire import WireFormat
from codec_wire.maps import LatentMapBundle
from core.model import ModelInfo

MakeMap = Callable[[Mapping[str, bytes], Sequence[Dictionary]], LatentMapBundle]
"""Returns the model's map with these static scales and dictionaries."""


@dataclass(frozen=True, slots=True)
class DictionaryTrial:
    """What a dictionary did for the held-out bodies of one wire format and pipeline.

    `sizes` are means; `saving` is the mean of the bodies' own savings, so that each counts the same, however large.
    """

    wire_format: WireFormat
    pipeline: str
    sizes: BodySizes
    saving: float

    @property
    def kept(self) -> bool:
        """Whether the dictionary won."""
        return self.saving > 0


@dataclass(frozen=True, slots=True)
class BuiltMap:
    """A bundle, what each pipeline keeps of the latents, and how the dictionaries did."""

    bundle: LatentMapBundle
    qualities: list[Quality]
    trials: list[DictionaryTrial]


def build_map(
    model: ModelInfo,
    samples: Sequence[Sample],
    make_map: MakeMap,
    on_trial: Callable[[int, int], None] = lambda _done, _total: None,
) -> BuiltMap:
    """Return the map of `model`: scales and dictionaries of some of the samples, judged by those held out.

    A dictionary is kept only where it makes held-out bodies, on average, smaller than the best of identity, gzip and
    zstd without one. `on_trial` is called with (pairs of format and pipeline done, pairs in all). Without a sample
    the map has no static scales; with few, no dictionaries.
    """
    if not samples:
        return BuiltMap(make_map({}, []), [], [])
    training = [sample for sample in samples if not sample.held_out]
    held_out = [sample for sample in samples if sample.held_out]
    scales = static_scales([latent for sample in training for latent in sample.latents])
    bundle = make_map(scales, [])
    judged = [latent for sample in held_out or training for latent in sample.latents]
    dictionaries, trials = [], []
    if held_out:
        pairs = [(name, wire_format) for name in _pipelines(samples, bundle) for wire_format in WireFormat]
        for number, (pipeline, wire_format) in enumerate(pairs, 1):
            bodies = list(_bodies(training, pipeline, wire_format, bundle, model))
            found = train(bodies, wire_format)
            judges = list(_bodies(held_out, pipeline, wire_format, bundle, model))
            on_trial(number, len(pairs))
            if found is None or not judges:
                continue
            trial = _tried(pipeline, wire_format, [measure(body, found) for body in judges])
            trials.append(trial)
            if trial.kept:
                dictionaries.append(Dictionary(wire_format, pipeline, found, _summary(bodies, judges, trial)))
    return BuiltMap(make_map(scales, dictionaries), measure_quality(judged, scales), trials)


def _pipelines(samples: Sequence[Sample], bundle: LatentMapBundle) -> list[str]:
    return list(dict.fromkeys(name for sample in samples for name in pipelines_for(sample, bundle)))


def _bodies(
    samples: Sequence[Sample], pipeline: str, wire_format: WireFormat, bundle: LatentMapBundle, model: ModelInfo
) -> Iterator[Body]:
    for sample in samples:
        if pipeline in pipelines_for(sample, bundle):
            yield body_of(sample, pipeline, wire_format, bundle, model)


def _tried(pipeline: str, wire_format: WireFormat, sizes: Sequence[BodySizes]) -> DictionaryTrial:
    return DictionaryTrial(wire_format, pipeline, mean_of(sizes), fmean(size.saving or 0 for size in sizes))


def _summary(training: Sequence[Body], held_out: Sequence[Body], trial: DictionaryTrial) -> dict[str, object]:
    """Return the map's corpus_summary. `n_samples` is the published name of the number of bodies trained with."""
    shapes = sorted({body.header.shape for body in (*training, *held_out)})
    return {
        "n_samples": len(training),
        "n_held_out": len(held_out),
        "latent_shapes": [list(shape) for shape in shapes],
        "mean_held_out_bytes": trial.sizes.rounded(),
        "mean_saving": round(trial.saving, 4),
    }
