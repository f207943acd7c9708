"""The Serve application that settings describe."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codec_ray.app import DEPLOYMENT, REPLICA_SETTINGS, build
from codec_ray.cluster import startup_error
from codec_wire.errors import InvalidMap, InvalidSettings, ModelLoadError
from core.access_settings import AccessSettings
from core.settings import Settings


def deployment_of(arguments: dict[str, Any]) -> Any:
    return build(arguments)._bound_deployment


def test_replica_has_one_thread_and_one_cpu_by_default() -> None:
    deployment = deployment_of({"model": "embedded", "device": "cpu"})
    assert deployment.name == DEPLOYMENT
    assert deployment.num_replicas == 1
    assert deployment.ray_actor_options["num_cpus"] == 1
    assert deployment.ray_actor_options["num_gpus"] == 0
    values, _loader = deployment.init_args
    assert (values["model"], values["threads"]) == ("embedded", 1)


def test_replica_has_the_configured_threads() -> None:
    deployment = deployment_of({"device": "cpu", "threads": 3, "replicas": 4, "drain_timeout_s": 7})
    assert (deployment.num_replicas, deployment.ray_actor_options["num_cpus"]) == (4, 3)
    assert deployment._deployment_config.graceful_shutdown_timeout_s == 7


def test_replica_on_a_gpu_has_one_gpu() -> None:
    assert deployment_of({"device": "cuda"}).ray_actor_options["num_gpus"] == 1


def test_number_of_replicas_follows_the_load_between_the_limits() -> None:
    scaling = deployment_of({"device": "cpu", "max_replicas": 5})._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 5)


@pytest.mark.parametrize(
    "fields", [{"replicas": 2, "max_replicas": 3}, {"min_replicas": 2}, {"min_replicas": 3, "max_replicas": 2}]
)
def test_contradicting_numbers_of_replicas_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InvalidSettings, match="--m(in|ax)-replicas"):
        build({"device": "cpu", **fields})


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="modell"):
        build({"modell": "x"})


def test_replica_gets_no_setting_of_who_can_use_the_server() -> None:
    assert not {*REPLICA_SETTINGS} & {*AccessSettings.model_fields}
    assert {*REPLICA_SETTINGS} <= {*Settings.model_fields}


def test_settings_of_a_replica_can_be_read_again(tmp_path: Path) -> None:
    values, _loader = deployment_of({"device": "cpu", "models_dir": str(tmp_path)}).init_args
    assert Settings(**values).models_dir == tmp_path


@pytest.mark.parametrize(
    ("message", "cls", "text"),
    [
        ("Traceback ...\ncodec_wire.errors.InvalidMap: map.json: broken\n", InvalidMap, "map.json: broken"),
        ("codec_wire.errors.NotReady: later", ModelLoadError, "later"),
        ("no space\nleft", ModelLoadError, "the replicas cannot be started: no space left"),
    ],
)
def test_error_of_a_replica_that_does_not_start_keeps_its_class(message: str, cls: type, text: str) -> None:
    deployment = SimpleNamespace(message=message)
    error = startup_error(SimpleNamespace(message="", deployments={DEPLOYMENT: deployment}))  # type: ignore[arg-type]
    assert type(error) is cls
    assert str(error) == text
