"""Export of a VAE's decoder to an ONNX model that browsers run, and comparison of the ONNX model with the VAE."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_pixels.latent_scaling import scaling_of
from codec_pixels.linear_attention import attention_with_clamped_divisors
from codec_pixels.vae import VAE_DECODERS, as_supported_class, decodes_frames_separately
from codec_wire.errors import ModelLoadError

OPSET = 18
"""Version of the ONNX operators. With version 18 of the operators, onnxruntime-web runs every operator of a decoder,
both on WebGPU and in WASM."""
INPUT, OUTPUT = "latents", "pixels"
MAX_DIFFERENCE = {False: 1e-4, True: 2 / 255}
"""Largest allowed difference between a pixel value of the exported decoder and the same pixel value of torch. Pixel
values are from 0 to 1. The key of the dictionary is true if the exported decoder stores the weights as fp16. If the
published weights are already fp16, storing the weights as fp16 adds no difference."""
_IMAGE_SHAPES = ((1, 16, 16), (2, 9, 24), (1, 32, 32))
_VIDEO_SHAPES = ((3, 8, 8), (2, 9, 12), (5, 8, 16))
"""Shapes (latent frames, height, width) of the latents for which an exported decoder is compared with a video VAE."""
_EXAMPLE_SHAPE = (2, 12, 20)
"""Shape of the latents with which the decoder is exported. All sizes are different and larger than 1, because torch
does not treat the sizes 0 and 1 as variable."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference between the exported decoder and torch, for random latents of one shape."""

    shape: tuple[int, ...]
    value: float
    """Largest difference of pixel values in [0, 1]."""
    levels: int
    """Largest difference of pixel values that are rounded to 8-bit integers."""


class DecoderModule(torch.nn.Module):
    """Module that decodes latents with the shape [F, C, h, w] to RGB values with the shape [N, 3, H, W].

    The latents are scaled as in a latent stream. The RGB values are between 0 and 1. `pipeline_class` determines the
    scaling, as in codec_pixels.vae.decode_latents. Raises ModelLoadError if the class of the VAE is not supported.
    """

    def __init__(self, vae: Any, pipeline_class: str | None) -> None:
        super().__init__()
        self.vae = as_supported_class(vae)
        name = type(self.vae).__name__
        if name not in VAE_DECODERS:
            raise ModelLoadError(f"VAE class {name} is not supported; supported classes: {', '.join(VAE_DECODERS)}")
        self.separate = decodes_frames_separately(self.vae)
        self._decode: Callable[[Any, Tensor], Tensor] = VAE_DECODERS[name]
        self._unscale = scaling_of(pipeline_class, name, self.vae).unscale

    def forward(self, latents: Tensor) -> Tensor:
        """Return the pixels of `latents`."""
        unscaled = self._unscale(self.vae, latents)
        # In torch, frames are decoded one by one to limit memory. An exported loop could not have a variable length.
        decoded = self.vae.decode(unscaled).sample if self.separate else self._decode(self.vae, unscaled)
        return (decoded / 2 + 0.5).clamp(0, 1)


def export_decoder(
    vae: Any, pipeline_class: str | None, channels: int, *, fp16_weights: bool
) -> tuple[bytes, list[Difference]]:
    """Export the decoder of `vae` for latents with `channels` channels.

    Return the ONNX model, and the differences between the model's pixels and the pixels of torch.

    The input "latents" of the ONNX model is float32 [N, C, h, w], scaled as in a latent stream. The output "pixels" of
    the ONNX model is float32 [N, 3, H, W], with RGB values from 0 to 1. The sizes N, h and w are variable. If the VAE
    compresses time, the output has more frames than the input. Every operation of the exported decoder computes in
    fp32. With `fp16_weights`, the file stores large weights as fp16. The same VAE and library versions produce the same
    bytes. `vae` is converted to fp32 and moved to the CPU.

    Raises ModelLoadError if the VAE cannot be exported with variable sizes, or if a weight is too large for fp16.
    Raises ModelLoadError also if the exported decoder differs from torch by more than MAX_DIFFERENCE.
    """
    module = DecoderModule(vae, pipeline_class).float().cpu().eval().requires_grad_(False)
    name = type(module.vae).__name__
    try:
        with attention_with_clamped_divisors(module):
            model = _exported(module, channels)
    except Exception as error:  # torch and diffusers raise many classes
        raise ModelLoadError(f"a decoder of the class {name} cannot be exported: {_reason(error)}") from error
    _remove_origins(model)
    if fp16_weights:
        _store_as_fp16(model)
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    differences = []
    for frames, height, width in _IMAGE_SHAPES if module.separate else _VIDEO_SHAPES:
        try:
            shape = (frames, channels, height, width)
            differences.append(compare_decoder(module, data, shape, MAX_DIFFERENCE[fp16_weights]))
        except onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException as error:
            raise ModelLoadError(
                f"a decoder of the class {name} cannot be exported with variable sizes: {_reason(error)}"
            ) from error
    return data, differences


def _exported(module: DecoderModule, channels: int) -> ir.Model:
    frames, height, width = _EXAMPLE_SHAPE
    example = torch.zeros(frames, channels, height, width)
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes={INPUT: {0: "N", 2: "h", 3: "w"}},
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise ModelLoadError("the ONNX exporter of torch returned no model")
    return program.model


def _remove_origins(model: ir.Model) -> None:
    """Remove information about the Python code: stack traces with paths of this machine, and names of modules."""
    model.producer_version = torch.__version__.partition("+")[0]
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _store_as_fp16(model: ir.Model) -> None:
    """Store the matrices and kernels as fp16, and add Cast nodes that convert the matrices and kernels to fp32.

    ONNX runtimes evaluate the Cast nodes only once. Vectors, such as biases and the scaling factors of latents, are
    small and stay fp32. Raises ModelLoadError.
    """
    graph = model.graph
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size == max(tensor.shape.numpy(), default=1):
            continue
        with np.errstate(over="ignore"):
            half = tensor.numpy().astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelLoadError(
                f"{value.name} has values that are too large for fp16: export the decoder without --fp16"
            )
        name = str(value.name)
        stored = ir.Value(name=f"{name}.fp16", shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT16))
        stored.const_value = ir.Tensor(half, name=stored.name)
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT.value})
        cast.outputs[0].name = name
        cast.outputs[0].shape, cast.outputs[0].type = value.shape, value.type
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        del graph.initializers[name]
        graph.register_initializer(stored)
        graph.insert_before(graph[0], cast)


def compare_decoder(module: DecoderModule, data: bytes, shape: tuple[int, ...], bound: float) -> Difference:
    """Return the difference between the ONNX decoder `data` and `module` for random latents.

    `shape` is the shape of the latents, [F, C, h, w].

    Raises ModelLoadError if the difference is larger than `bound`.
    """
    latents = np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(latents)).numpy()
    found = run_decoder(data, latents)
    if found.shape != expected.shape:
        raise ModelLoadError(f"the exported decoder returns the shape {found.shape} instead of {expected.shape}")
    value = float(np.abs(found - expected).max())
    if not value <= bound:  # also true for NaN
        raise ModelLoadError(
            f"the exported decoder of the {type(module.vae).__name__} differs from torch by {value:.2g} for latents of "
            f"the shape {list(shape)}; the maximum allowed difference is {bound:.2g}"
        )
    return Difference(shape, value, int(np.abs(np.rint(found * 255) - np.rint(expected * 255)).max()))


def run_decoder(data: bytes, latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pixels [N, 3, H, W] in [0, 1] that the ONNX decoder `data` computes for latents [N, C, h, w]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    pixels: NDArray[np.float32] = session.run([OUTPUT], {INPUT: latents})[0]
    return pixels


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost cause of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings, such as warnings about operators of packages that are not installed."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
