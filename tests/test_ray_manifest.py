"""deploy/ray: the manifest for KubeRay, checked with the classes of Ray Serve that read its configuration.

The packages of this environment do not contain a schema of the RayService resource.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

MANIFEST = Path(__file__).resolve().parent.parent / "deploy" / "ray" / "rayservice.yaml"


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(MANIFEST.read_text())}


def head_of(documents: dict[str, Any]) -> Any:
    return documents["RayService"]["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]


def test_serve_config_is_valid_and_builds_its_applications(documents: dict[str, Any]) -> None:
    from ray.serve import Application
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load(documents["RayService"]["spec"]["serveConfigV2"])
    for application in ServeDeploySchema.model_validate(config).applications:
        module, _, name = application.import_path.partition(":")
        build = getattr(import_module(module), name)
        assert isinstance(build(application.args), Application)
        assert application.route_prefix is None


def test_ray_version_is_the_tested_one(documents: dict[str, Any]) -> None:
    import ray

    version = documents["RayService"]["spec"]["rayClusterConfig"]["rayVersion"]
    assert version.split(".")[:2] == ray.__version__.split(".")[:2]


def test_service_selects_the_ports_of_the_server(documents: dict[str, Any]) -> None:
    head, service = head_of(documents), documents["Service"]["spec"]
    assert service["selector"].items() <= head["metadata"]["labels"].items()
    server = next(container for container in head["spec"]["containers"] if container["name"] == "server")
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["ports"]}.items() <= ports.items()


def test_server_shares_the_node_of_the_head(documents: dict[str, Any]) -> None:
    head, server = head_of(documents)["spec"]["containers"]
    assert head["volumeMounts"] == server["volumeMounts"]
    assert server["command"][:2] == ["codec-diffusers", "serve"]
