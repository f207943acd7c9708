"""Body sizes of every wire format, pipeline and content coding of a model, compared with the order-0 entropy.

Generates images of 256x256 and 512x512, and a video of 24 frames if the model supports videos. The bodies are the exact
bytes that a client receives over HTTP, without the HTTP headers: they are encoded, serialized and compressed by the
server's own code, with a flush after every message. The seeds and prompts differ from those that `map build` uses for
training. The dictionaries are those of the model's latent-space map; "-" means that the map does not have a dictionary.

    python -m bench.wire                print a table for the embedded model
    python -m bench.wire --markdown     print the table of docs/compression.md
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from codec_maps import BodySizes
from codec_maps.bodies import encode_body, mean_sizes, measure_sizes, pipelines_for
from codec_maps.corpus import Sample, generate_latents
from codec_server.local_model import LocalModel
from codec_wire import WireFormat
from codec_wire.errors import CodecError
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.model import ModelInfo
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings, read_settings

PROMPTS = (
    "a lighthouse on a cliff in a storm",
    "a quiet village street in the snow at night",
    "a field of sunflowers under a clear sky",
    "two boats on a calm lake at sunrise",
)
SEED = 1_000_000
"""First seed. `map build` uses the seeds from 0."""
IMAGE_SIDES = (256, 512)
FRAMES = 24
NAMES = ("identity", "gzip", "br", "zstd", "zstd + dictionary", "entropy bound")


@dataclass(frozen=True, slots=True)
class Row:
    """The mean size of one kind of body, in bytes."""

    label: str
    wire_format: WireFormat
    pipeline: str
    sizes: BodySizes

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the row; the last two are the savings of the smallest coding and of the entropy bound."""
        sizes = self.sizes
        values = (sizes.identity, sizes.gzip, sizes.br, sizes.zstd, sizes.zstd_dictionary, sizes.entropy_bound)
        least = min(value for value in values[:-1] if value is not None)
        return (
            self.label,
            self.wire_format,
            self.pipeline,
            *("-" if value is None else f"{value:.0f}" for value in values),
            f"{1 - least / sizes.identity:.1%}",
            f"{1 - sizes.entropy_bound / sizes.identity:.1%}",
        )


HEADING = ("body", "format", "pipeline", *NAMES, "smallest saves", "bound saves")


def requests_for(model: ModelInfo, count: int) -> list[tuple[str, list[GenerationRequest]]]:
    """Return a label and `count` requests for each kind of output that `model` supports."""
    kinds: list[tuple[str, dict[str, object]]] = []
    if Modality.IMAGE in model.modalities:
        kinds += [(f"{side}x{side}", {"size": (side, side), "modality": Modality.IMAGE}) for side in IMAGE_SIDES]
    if Modality.VIDEO in model.modalities:
        width, height = model.default_size
        video = {"size": model.default_size, "modality": Modality.VIDEO, "frames": FRAMES}
        kinds.append((f"{width}x{height}, {FRAMES} frames", video))
    return [
        (
            label,
            [
                GenerationRequest.model_validate(
                    fields | {"prompt": PROMPTS[number % len(PROMPTS)], "seed": SEED + number}
                )
                for number in range(count)
            ],
        )
        for label, fields in kinds
    ]


def rows_of(label: str, samples: Sequence[Sample], served: ModelInstance) -> list[Row]:
    """Return a row for every pipeline and wire format that is available for `samples`."""
    rows = []
    for pipeline in pipelines_for(samples[0], served.bundle):
        for wire_format in WireFormat:
            found = served.bundle.dictionary(wire_format, pipeline)
            dictionary = None if found is None else found[1]
            bodies = (encode_body(sample, pipeline, wire_format, served.bundle, served.model) for sample in samples)
            sizes = mean_sizes([measure_sizes(body, dictionary) for body in bodies])
            rows.append(Row(label, wire_format, pipeline, sizes))
    return rows


async def run_measurement(settings: Settings, count: int) -> tuple[ModelInstance, list[Row]]:
    """Load the model, generate samples and return the rows. Raises CodecError if loading or generating fails."""
    model, service = LocalModel(settings), LatentService(Lifecycle(), Admission(1, settings.max_cost))
    try:
        await model.start_serving(service)
        served = service.models.require_default()
        kinds = requests_for(served.model, count)
        rows: list[Row] = []
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("generating", total=count * len(kinds))
            for label, requests in kinds:
                samples = []
                for request in requests:
                    samples.append(Sample(request, await generate_latents(served, request), held_out=True))
                    progress.advance(task)
                rows += await asyncio.to_thread(rows_of, label, samples, served)
        return served, rows
    finally:
        await asyncio.to_thread(model.free)


def report(served: ModelInstance, rows: list[Row], *, markdown: bool) -> None:
    """Print the rows as a table."""
    if markdown:
        print(f"`{served.model.name}`, map `{served.bundle.hash}`:\n")
        for cells in (HEADING, ("---",) * len(HEADING), *(row.cells() for row in rows)):
            print("| " + " | ".join(cells) + " |")
        return
    table = Table(*HEADING, title=f"bytes per body: {served.model.name}, map {served.bundle.hash}")
    for row in rows:
        table.add_row(*row.cells())
    Console(width=max(Console().width, 150)).print(table)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Body sizes of every wire format, pipeline and content coding.")
    parser.add_argument("--model", help="model to measure (default: CODEC_MODEL)")
    parser.add_argument("--models-dir", type=Path, help="directory of local models and latent-space maps")
    parser.add_argument("--latent-space", help="id of the model's latent space")
    parser.add_argument("--device", help="torch device")
    parser.add_argument("--threads", type=int, help="number of CPU threads")
    parser.add_argument(
        "--count", type=int, default=8, help="number of generations of each kind (default: %(default)s)"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = vars(parser.parse_args())
    markdown, count = options.pop("markdown"), options.pop("count")
    try:
        served, rows = asyncio.run(run_measurement(read_settings(options), count))
    except CodecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report(served, rows, markdown=markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
