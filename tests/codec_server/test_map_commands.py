"""The map commands, and the calibration of a model without a map when a server starts."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codec_pixels.vae_location import locate_vae
from codec_server.cli import app
from codec_server.local_model import LocalModel
from codec_wire.errors import InvalidMap, OutOfMemory
from codec_wire.http import decoder_path
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import sha256
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.map_store import bundle_folder
from core.service import LatentService
from core.settings import read_settings
from tests.support.tiny_sd import save_model_and_map

pytestmark = pytest.mark.slow

MODEL = ["--pipeline", "tests.support.tiny_sd:build_pipeline", "--latent-space", "test/space", "--threads", "1"]


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_map_is_built_shown_and_verified(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a sea\n\na desert\n")
    options = [*MODEL, "--models-dir", str(tmp_path), "--calibration-images", "2", "--prompts", str(prompts)]
    status, output = invoke("map", "build", *options)
    assert status == 0, output
    assert "int4-adaptive" in output
    folder = bundle_folder(tmp_path, "test/space")
    first = LatentMapBundle.from_folder(folder)
    assert [entry.name for entry in first.latent_map.pipelines] == [
        "raw",
        "int8",
        "int4",
        "int8-adaptive",
        "int4-adaptive",
    ]
    assert first.static_scales("int8") != first.static_scales("int4")
    status, output = invoke("map", "show", str(folder))
    assert status == 0
    assert json.loads(output[: output.index("}\nsha256") + 1]) == json.loads(first.document)
    assert first.hash in output
    assert invoke("map", "verify", str(folder)) == (0, f"test/space is valid: {first.hash}, 2 files\n")
    # Building is deterministic.
    status, output = invoke("map", "build", *options)
    assert status == 0, output
    assert LatentMapBundle.from_folder(folder) == first


SMALL = ["--pipeline", "tests.support.tiny_sd:build_small_pipeline", "--latent-space", "test/small", "--threads", "1"]


def test_dictionaries_are_trained_evaluated_and_reproducible(tmp_path: Path) -> None:
    options = [*SMALL, "--calibration-images", "12"]
    status, output = invoke("map", "build", *options, "--models-dir", str(tmp_path / "one"))
    assert status == 0, output
    assert "Mean size in bytes of responses that were not used for training" in output
    folder = bundle_folder(tmp_path / "one", "test/small")
    first = LatentMapBundle.from_folder(folder)
    entry = next(entry for entry in first.latent_map.zstd_dictionaries if entry.pipeline == "int4-adaptive")
    assert entry.corpus_summary is not None
    assert (entry.corpus_summary["n_samples"], entry.corpus_summary["n_held_out"]) == (9, 3)
    assert entry.corpus_summary["latent_shapes"] == [[4, 8, 8], [4, 8, 12]]
    sizes = entry.corpus_summary["mean_held_out_bytes"]
    assert sizes["zstd_dictionary"] < min(sizes["identity"], sizes["gzip"], sizes["br"])
    assert invoke("map", "verify", str(folder))[0] == 0
    assert invoke("map", "build", *options, "--models-dir", str(tmp_path / "two"))[0] == 0
    assert LatentMapBundle.from_folder(bundle_folder(tmp_path / "two", "test/small")) == first


def test_thresholds_are_written_to_a_bundle(tmp_path: Path) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    folder = bundle_folder(tmp_path, "tiny-sd-vae")
    before = LatentMapBundle.from_folder(folder)
    bounds = tmp_path / "thresholds.json"
    bounds.write_text('{"int8": {"ssim_min": 0.98, "psnr_min_db": 38, "lpips_max": 0.01, "fixture_suite": "g/1"}}')
    status, output = invoke("map", "thresholds", str(folder), str(bounds))
    after = LatentMapBundle.from_folder(folder)
    assert (status, output.strip()) == (0, f"wrote {folder}: tiny-sd-vae {after.hash}")
    assert after.hash != before.hash
    entry = after.latent_map.pipeline("int8")
    assert entry is not None
    assert entry.quality_thresholds is not None
    bounds.write_text('{"int9": {"ssim_min": 0.98, "lpips_max": 0.01}}')
    status, output = invoke("map", "thresholds", str(folder), str(bounds))
    assert status == 1
    assert "'int9'" in output
    assert LatentMapBundle.from_folder(folder) == after


def test_map_with_a_pinned_decoder_requires_its_weights(tmp_path: Path) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    folder = bundle_folder(tmp_path, "tiny-sd-vae")
    before = LatentMapBundle.from_folder(folder)
    options = ["map", "pin-decoder", str(folder), "--models-dir", str(tmp_path)]
    status, output = invoke(*options)
    after = LatentMapBundle.from_folder(folder)
    assert (status, output.strip()) == (0, f"wrote {folder}: tiny-sd-vae {after.hash}")
    assert after.hash != before.hash
    vae = locate_vae(after.latent_map, tmp_path)
    weights = next(vae.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(
        InvalidMap, match=r"no weights file has the hash sha256:.* diffusion_pytorch_model\.safetensors"
    ):
        locate_vae(after.latent_map, tmp_path)
    status, output = invoke(*options)  # the hash of the replaced weights is not required
    assert status == 0, output
    assert locate_vae(LatentMapBundle.from_folder(folder).latent_map, tmp_path) == vae
    (vae / "second.safetensors").touch()
    status, output = invoke(*options)
    assert status == 2
    assert (
        "must contain exactly one safetensors file with the weights, got diffusion_pytorch_model.safetensors, second"
        in output
    )


def test_canonical_image_is_stored_in_the_map_by_digest(tmp_path: Path) -> None:
    image = f"example/codec-diffusers@sha256:{'a' * 64}"
    options = [*MODEL, "--models-dir", str(tmp_path), "--calibration-images", "0", "--canonical-image"]
    status, output = invoke("map", "build", *options, image)
    assert status == 0, output
    bundle = LatentMapBundle.from_folder(bundle_folder(tmp_path, "test/space"))
    assert bundle.latent_map.decoder is not None
    assert bundle.latent_map.decoder.canonical_image == image
    status, output = invoke("map", "build", *options, "example/codec-diffusers:latest")
    assert status == 2
    assert "--canonical-image must be NAME@sha256:<64 hex>, got 'example/codec-diffusers:latest'. Tags" in output


def test_corrupt_bundle_fails_with_one_line_and_status_1(tmp_path: Path) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    folder = bundle_folder(tmp_path, "tiny-sd-vae")
    asset = next((folder / "assets").iterdir())
    asset.write_bytes(b"x" + asset.read_bytes()[1:])
    for command in ("show", "verify"):
        status, output = invoke("map", command, str(folder))
        assert status == 1
        assert output.count("\n") == 1
        assert "expected sha256:" in output


@pytest.mark.parametrize("content", [None, "", "\n \n"])
def test_missing_or_empty_prompts_file_fails_with_status_2(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_text(content)
    status, output = invoke("map", "build", *MODEL, "--prompts", str(path), "--models-dir", str(tmp_path))
    assert status == 2
    assert output.startswith("error: ")


def test_map_that_cannot_be_written_fails_with_one_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "latent-spaces").write_text("in the way")
    options = ["--models-dir", str(tmp_path), "--calibration-images", "0"]
    status, output = invoke("map", "build", *MODEL, *options)
    assert status == 1
    (line,) = [line for line in output.splitlines() if line.startswith("error")]
    folder = bundle_folder(tmp_path, "test/space")
    assert line == f"error: cannot write the latent-space map to {folder}: Not a directory"


async def test_map_that_cannot_be_written_is_reported_before_images_are_generated(tmp_path: Path) -> None:
    (tmp_path / "latent-spaces").write_text("in the way")
    settings = read_settings(
        {
            "pipeline": "tests.support.tiny_sd:build_pipeline",
            "latent_space": "test/space",
            "models_dir": tmp_path,
            "calibration_images": 1,
            "threads": 1,
        }
    )
    model = LocalModel(settings)
    generated: list[int] = []
    try:
        with pytest.raises(InvalidMap, match="cannot write the latent-space map to .*: Not a directory"):
            await model.build_map(["a sea"], generated.append, lambda _done, _total: None)
    finally:
        assert model.free()
    assert not generated


async def start_and_get_map(models_dir: Path, images: int) -> LatentMapBundle:
    """Start a server with `images` calibration images, and return the map that it serves."""
    settings = read_settings(
        {
            "pipeline": "tests.support.tiny_sd:build_pipeline",
            "latent_space": "test/space",
            "models_dir": models_dir,
            "calibration_images": images,
            "threads": 1,
        }
    )
    model, service = LocalModel(settings), LatentService(Lifecycle(), Admission(1, 10**12))
    try:
        await model.start_serving(service)
    finally:
        assert model.free()
    return service.models.require_default().bundle


async def test_server_without_a_map_calibrates_and_stores_one(tmp_path: Path) -> None:
    first = await start_and_get_map(tmp_path, images=1)
    assert first.static_scales("int8") is not None
    assert LatentMapBundle.from_folder(bundle_folder(tmp_path, "test/space")) == first
    again = await start_and_get_map(tmp_path, images=2)  # uses the stored map
    assert again.hash == first.hash


async def test_damaged_map_of_the_server_is_calibrated_again_at_the_next_start(tmp_path: Path) -> None:
    first = await start_and_get_map(tmp_path, images=1)
    folder = bundle_folder(tmp_path, "test/space")
    (folder / "map.json.sha256").unlink()
    assert await start_and_get_map(tmp_path, images=1) == first
    assert LatentMapBundle.from_folder(folder) == first
    (folder / "calibrated.sha256").unlink()
    (folder / "map.json.sha256").unlink()
    with pytest.raises(InvalidMap, match=r"map\.json\.sha256: No such file"):
        await start_and_get_map(tmp_path, images=1)


async def test_exported_decoder_is_listed_in_a_new_map_and_published_by_a_server(tmp_path: Path) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    source, folder = (bundle_folder(directory, "tiny-sd-vae") for directory in (tmp_path, tmp_path / "new"))
    before = LatentMapBundle.from_folder(source)
    arguments = [str(source), "--output", str(folder), "--models-dir", str(tmp_path)]
    status, output = invoke("map", "export-decoder", *arguments, "--format", "onnx")
    assert status == 0, output
    assert output.count("differs from torch by") == 3
    after = LatentMapBundle.from_folder(folder)
    data = (folder / "decoder.onnx").read_bytes()
    decoder = after.latent_map.decoder
    assert decoder is not None
    assert (decoder.family, decoder.model_class) == ("onnx", "AutoencoderKL")
    assert (decoder.weights_hash, decoder.weights_url) == (sha256(data), decoder_path(sha256(data)))
    assert after.hash in output
    assert after.latent_map.pipelines == before.latent_map.pipelines
    # A server publishes the decoder also next to the unchanged map.
    (source / "decoder.onnx").write_bytes(data)
    settings = read_settings({"model": "tiny-sd", "models_dir": tmp_path, "device": "cpu", "threads": 1})
    model, service = LocalModel(settings), LatentService(Lifecycle(), Admission(1, 10**12))
    try:
        await model.start_serving(service)
    finally:
        assert model.free()
    served = service.models.require_default()
    assert served.bundle == before
    assert served.decoder is not None
    assert served.decoder.hash == sha256(data)


async def test_zero_calibration_images_disable_calibration(tmp_path: Path) -> None:
    bundle = await start_and_get_map(tmp_path, images=0)
    assert [entry.name for entry in bundle.latent_map.pipelines] == ["raw", "int8-adaptive", "int4-adaptive"]
    assert not (bundle_folder(tmp_path, "test/space") / "map.json").exists()


async def test_map_is_served_if_it_cannot_be_stored(tmp_path: Path) -> None:
    (tmp_path / "latent-spaces").write_text("in the way")
    assert (await start_and_get_map(tmp_path, images=1)).static_scales("int4") is not None


async def test_failed_calibration_leaves_a_map_without_static_scales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object) -> None:
        raise OutOfMemory("the device has too little memory for 256x256, 1 frames")

    monkeypatch.setattr("codec_server.calibration.generate_corpus", fail)
    bundle = await start_and_get_map(tmp_path, images=1)
    assert "int8" not in [entry.name for entry in bundle.latent_map.pipelines]
