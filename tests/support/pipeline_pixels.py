"""The same request for a tiny pipeline, called directly and through a client."""

import io
import json
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from codec_maps.model_map import map_from_model
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from core.diffusers_engine.loader import LoadedModel
from core.probe import sample_image, sample_mask
from tests.support.families.cases import Case, pipeline_class_name

WIDTH, HEIGHT, STEPS, SEED = 64, 96, 3, 5
PROMPT = "a sea at dawn"


def bundle_with_dtype(model: LoadedModel, dtype: str) -> LatentMapBundle:
    """Return the map of `model` with another dtype of the latents on the wire."""
    bundle = map_from_model(model.info, model.vae_scale_factor, model.vae_class)
    document = json.loads(bundle.document) | {"dtype": dtype}
    return LatentMapBundle.from_parts(json.dumps(document).encode(), bundle.assets)


def input_images(case: Case) -> dict[str, bytes]:
    """Return a PNG for each image field of the case, in the size of the output, so the server does not resize it."""
    files = {}
    for number, field in enumerate(case.images):
        file = sample_mask() if field == "mask" else sample_image(number)
        with Image.open(io.BytesIO(file)) as image:
            buffer = io.BytesIO()
            image.resize((WIDTH, HEIGHT)).save(buffer, "PNG")
        files[field] = buffer.getvalue()
    return files


def expected_pixels(name: str, case: Case, pipeline: Any) -> NDArray[np.uint8]:
    """Call the pipeline class directly and return its pixels, uint8 [frames, height, width, 3]."""
    pipeline_class = getattr(diffusers, pipeline_class_name(name))
    if not isinstance(pipeline, pipeline_class):
        pipeline = pipeline_class.from_pipe(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = dict(case.arguments)
    for field, data in input_images(case).items():
        arguments[case.images[field]] = Image.open(io.BytesIO(data)).convert("RGB")
    if case.repeats_images:
        arguments |= {name: [arguments[name]] * (case.num_frames or 1) for name in case.images.values()}
    if case.has_prompt:
        arguments["prompt"] = PROMPT
    if case.has_size:
        arguments |= {"width": WIDTH, "height": HEIGHT}
    if case.num_frames is not None:
        arguments[case.frames_argument] = case.num_frames
    generator = torch.Generator("cpu").manual_seed(SEED)
    case.prepare(pipeline)
    output = pipeline(**arguments, num_inference_steps=STEPS, generator=generator, output_type="np")
    pixels = output[0] if case.num_frames is None else output[0][0]
    return (np.asarray(pixels) * 255).round().astype(np.uint8)


def request_fields(case: Case) -> dict[str, Any]:
    """Return the same request as keyword arguments of the client."""
    fields: dict[str, Any] = {"size": (WIDTH, HEIGHT), "steps": STEPS, "seed": SEED, "pipeline": "raw"}
    if case.num_frames is not None:
        fields |= {"modality": Modality.VIDEO, "frames": case.num_frames, "fps": 12}
    return fields | input_images(case)
