"""Construction of a latent-space map whose static scales and zstd dictionaries are computed from samples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from codec_maps.bodies import Body, BodySizes, encode_body, mean_sizes, measure_sizes, pipelines_for
from codec_maps.corpus import Sample
from codec_maps.dictionaries import train_dictionary
from codec_maps.model_map import Dictionary
from codec_maps.scales import Quality, measure_quality, static_scales
from codec_wire import WireFormat
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.latent_rgb import LatentRgb
from core.model import ModelInfo

MakeMap = Callable[[Mapping[str, bytes], Sequence[Dictionary]], LatentMapBundle]
"""Function that returns the model's map.

The arguments are a dictionary of static scales by pipeline name, and a list of zstd dictionaries.
"""


@dataclass(frozen=True, slots=True)
class DictionaryTrial:
    """Test result of a zstd dictionary, measured with held-out bodies in one wire format and encoding pipeline.

    `sizes` contains the mean sizes of the bodies. `saving` is the mean of the savings of all bodies. In `saving`, every
    body has the same weight.
    """

    wire_format: WireFormat
    pipeline: str
    sizes: BodySizes
    saving: float

    @property
    def accepted(self) -> bool:
        """Whether the dictionary saves bytes and is included in the map."""
        return self.saving > 0


@dataclass(frozen=True, slots=True)
class BuiltMap:
    """A map bundle, the quality of each encoding pipeline, and the results of all dictionaries that were trained."""

    bundle: LatentMapBundle
    qualities: list[Quality]
    trials: list[DictionaryTrial]
    latent_rgb: LatentRgb | None = None
    """Latent-to-RGB matrix, or None if the model's VAE is not loaded. The matrix is not part of the map."""


def build_map(
    model: ModelInfo,
    samples: Sequence[Sample],
    make_map: MakeMap,
    on_trial: Callable[[int, int], None] = lambda _done, _total: None,
) -> BuiltMap:
    """Return the map of `model`, with scales and dictionaries from the samples that are not held out.

    A zstd dictionary is included only if its mean saving for the held-out bodies is positive. The saving is relative to
    the smallest of three sizes: with identity, with gzip, and with zstd without a dictionary. A map built without
    samples has no static scales, and a map built from few samples has no zstd dictionaries. A zstd dictionary is
    trained for each pair of an encoding pipeline and a wire format. `on_trial` is called with the number of finished
    pairs and the number of all pairs.
    """
    if not samples:
        return BuiltMap(make_map({}, []), [], [])
    training = [sample for sample in samples if not sample.held_out]
    held_out = [sample for sample in samples if sample.held_out]
    scales = static_scales([latent for sample in training for latent in sample.latents])
    bundle = make_map(scales, [])
    evaluated = [latent for sample in held_out or training for latent in sample.latents]
    dictionaries, trials = [], []
    if held_out:
        pairs = [(name, wire_format) for name in _pipelines(samples, bundle) for wire_format in WireFormat]
        for number, (pipeline, wire_format) in enumerate(pairs, 1):
            training_bodies = list(_bodies(training, pipeline, wire_format, bundle, model))
            dictionary = train_dictionary(training_bodies, wire_format)
            held_out_bodies = list(_bodies(held_out, pipeline, wire_format, bundle, model))
            on_trial(number, len(pairs))
            if dictionary is None or not held_out_bodies:
                continue
            trial = _trial(pipeline, wire_format, [measure_sizes(body, dictionary) for body in held_out_bodies])
            trials.append(trial)
            if trial.accepted:
                summary = _corpus_summary(training_bodies, held_out_bodies, trial)
                dictionaries.append(Dictionary(wire_format, pipeline, dictionary, summary))
    return BuiltMap(make_map(scales, dictionaries), measure_quality(evaluated, scales), trials)


def _pipelines(samples: Sequence[Sample], bundle: LatentMapBundle) -> list[str]:
    return list(dict.fromkeys(name for sample in samples for name in pipelines_for(sample, bundle)))


def _bodies(
    samples: Sequence[Sample], pipeline: str, wire_format: WireFormat, bundle: LatentMapBundle, model: ModelInfo
) -> Iterator[Body]:
    for sample in samples:
        if pipeline in pipelines_for(sample, bundle):
            yield encode_body(sample, pipeline, wire_format, bundle, model)


def _trial(pipeline: str, wire_format: WireFormat, sizes: Sequence[BodySizes]) -> DictionaryTrial:
    return DictionaryTrial(wire_format, pipeline, mean_sizes(sizes), fmean(size.saving or 0 for size in sizes))


def _corpus_summary(training: Sequence[Body], held_out: Sequence[Body], trial: DictionaryTrial) -> dict[str, object]:
    """Return the map's `corpus_summary`. The published key `n_samples` is the number of bodies used for training."""
    shapes = sorted({body.header.shape for body in (*training, *held_out)})
    return {
        "n_samples": len(training),
        "n_held_out": len(held_out),
        "latent_shapes": [list(shape) for shape in shapes],
        "mean_held_out_bytes": trial.sizes.rounded(),
        "mean_saving": round(trial.saving, 4),
    }
