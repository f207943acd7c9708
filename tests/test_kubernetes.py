"""The objects of the Helm chart are valid, and fit the settings, the metrics and the probes of a server."""

import asyncio
import os
import re
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from codec_http.metrics import start_metrics_server
from codec_server.runner import CANCEL_TIMEOUT_S
from core.admission import Admission
from core.lifecycle import Lifecycle, State
from core.metrics_text import metrics_text
from core.service import LatentService
from core.settings import Settings, read_settings
from core.unknown_variables import unknown_variables
from scripts.kubernetes_manifests import MANIFESTS
from tests.support.chart_objects import (
    Object,
    container_of,
    deployments,
    needs_helm,
    of_kind,
    rendered,
    selected,
    variables,
)
from tests.support.chart_values import CASES, DIGEST
from tests.support.pod_security import violations

ADAPTER = yaml.safe_load((Path(__file__).resolve().parent.parent / "deploy/prometheus/adapter-values.yaml").read_text())
NO_SCHEMA = {"ServiceMonitor"}  # a resource of the Prometheus operator, not of Kubernetes
KUBERNETES = ("1.30", kubernetes_validate.latest_version())


@pytest.fixture(params=CASES)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    """The objects of the chart for each of the values in CASES."""
    return rendered(request.param)


def test_plain_manifests_comply_without_helm() -> None:
    objects = tuple(yaml.safe_load_all(MANIFESTS.read_text()))
    assert {item["kind"] for item in objects} == {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
    assert not any("namespace" in item["metadata"] for item in objects)
    for item in objects:
        kubernetes_validate.validate(item, KUBERNETES[0], strict=True)
    assert [violations(pod) for _, pod, _ in deployments(objects)] == [[]]


@needs_helm
@pytest.mark.parametrize("version", KUBERNETES)
def test_objects_are_valid_in_kubernetes(objects: tuple[Object, ...], version: str) -> None:
    for item in objects:
        if item["kind"] not in NO_SCHEMA:
            kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_unknown_field_is_not_valid_in_kubernetes(version: str) -> None:
    (deployment,) = of_kind(tuple(yaml.safe_load_all(MANIFESTS.read_text())), "Deployment").values()
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(deployment, version, strict=True)


@needs_helm
def test_pods_comply_with_the_restricted_standard(objects: tuple[Object, ...]) -> None:
    for _, pod, container in deployments(objects):
        assert violations(pod) == []
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["automountServiceAccountToken"] is False


@needs_helm
def test_variables_are_settings_that_a_server_accepts(
    objects: tuple[Object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, _, container in deployments(objects):
        environment = variables(container)
        assert unknown_variables(environment) == []
        for name in [name for name in os.environ if name.startswith("CODEC_")]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = read_settings({})
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        defaults = {"http": settings.port, "grpc": settings.grpc_port, "metrics": settings.metrics_port}
        assert ports == {name: defaults[name] for name in ports}
        for name in environment:
            monkeypatch.delenv(name)


@needs_helm
def test_large_and_fractional_values_reach_the_server() -> None:
    server = variables(container_of(rendered("everything"), "serve"))
    gateway = variables(container_of(rendered("everything"), "gateway"))
    assert server["CODEC_MAX_COST"] == "20000000000"
    assert server["CODEC_REQUEST_TIMEOUT_S"] == "90.5"
    assert server["CODEC_REQUIRE_PINS"] == "true"
    assert (server["CODEC_IMAGE_DIGEST"], server["HF_TOKEN"]) == (DIGEST, "secret")
    assert (gateway["CODEC_UPSTREAM"], gateway["CODEC_UPSTREAM_API_KEY"]) == ("codec-diffusers-pods:50051", "secret")


@needs_helm
def test_files_of_the_settings_are_in_mounted_volumes(objects: tuple[Object, ...]) -> None:
    for _, pod, container in deployments(objects):
        mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
        assert {*mounts.values()} == {volume["name"] for volume in pod.get("volumes", [])}
        files = {value for value in variables(container).values() if value.startswith("/run/secrets")}
        assert {str(Path(file).parent) for file in files} <= {*mounts}
        if container["args"] == ["serve"]:
            assert {str(Settings().models_dir), "/tmp"} <= {*mounts}


@needs_helm
def test_pod_is_killed_only_after_the_drain(objects: tuple[Object, ...]) -> None:
    for _, pod, container in deployments(objects):
        drain = float(variables(container)["CODEC_DRAIN_TIMEOUT_S"])
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] >= before + drain + CANCEL_TIMEOUT_S + 10


@needs_helm
def test_services_policies_and_budgets_select_pods_and_their_ports(objects: tuple[Object, ...]) -> None:
    pods = [
        (template["metadata"]["labels"], {port["name"] for port in container["ports"]})
        for template, _, container in deployments(objects)
    ]
    for service in of_kind(objects, "Service").values():
        (ports,) = [ports for labels, ports in pods if selected(labels, service["spec"]["selector"])]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for kind, field in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
        found = [item["spec"][field]["matchLabels"] for item in of_kind(objects, kind).values()]
        assert all(len([labels for labels, _ in pods if selected(labels, selector)]) == 1 for selector in found)
        assert len(found) == len(pods)


@needs_helm
def test_gateway_may_connect_to_the_servers() -> None:
    policies = of_kind(rendered("small"), "NetworkPolicy")
    (ingress,) = policies["codec-diffusers"]["spec"]["ingress"]
    (source,) = ingress["from"]
    assert source["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    egress = policies["codec-diffusers-gateway"]["spec"]["egress"][-1]
    assert egress["ports"] == [{"protocol": "TCP", "port": "grpc"}]
    assert policies["codec-diffusers-gateway"]["spec"].get("ingress") is None


@needs_helm
@pytest.mark.parametrize("values", ["small", "everything"])
def test_gateway_uses_the_addresses_of_all_server_pods(values: str) -> None:
    host, _, port = variables(container_of(rendered(values), "gateway"))["CODEC_UPSTREAM"].partition(":")
    service = of_kind(rendered(values), "Service")[host]["spec"]
    assert service["clusterIP"] == "None"
    assert not service.get("publishNotReadyAddresses")
    assert service["selector"]["app.kubernetes.io/component"] == "server"
    assert [(one["port"], one["targetPort"]) for one in service["ports"]] == [(int(port), "grpc")]


@needs_helm
def test_service_monitor_selects_all_metrics_services() -> None:
    (monitor,) = of_kind(rendered("everything"), "ServiceMonitor").values()
    services = of_kind(rendered("everything"), "Service")
    matching = {
        name
        for name, service in services.items()
        if selected(service["metadata"]["labels"], monitor["spec"]["selector"]["matchLabels"])
    }
    assert matching == {"codec-diffusers-metrics", "codec-diffusers-gateway-metrics"}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert all(services[name]["spec"]["ports"][0]["name"] == endpoint["port"] for name in matching)


def metric_names() -> set[str]:
    """Return the names of the metrics of a server."""
    text = metrics_text(LatentService(Lifecycle(), Admission(1, 1))).decode()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


@needs_helm
def test_autoscaler_uses_metrics_of_a_server_that_the_adapter_provides() -> None:
    (autoscaler,) = of_kind(rendered("everything"), "HorizontalPodAutoscaler").values()
    targets = {
        item["pods"]["metric"]["name"]: item["pods"]["target"]["averageValue"] for item in autoscaler["spec"]["metrics"]
    }
    assert targets == {"codec_queued_jobs": "2", "codec_active_cost": "5000000000"}
    assert {*targets} <= metric_names()
    (rule,) = ADAPTER["rules"]["custom"]
    (pattern,) = re.findall(r'__name__=~"([^"]+)"', rule["seriesQuery"])
    assert {name for name in metric_names() if re.search(pattern, name)} == {*targets}
    (deployment,) = [name for name in of_kind(rendered("everything"), "Deployment") if "gateway" not in name]
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment
    assert "replicas" not in of_kind(rendered("everything"), "Deployment")[deployment]["spec"]


@needs_helm
async def test_readiness_probe_for_client_certificates_reads_the_state() -> None:
    probe_of_server = container_of(rendered("everything"), "serve")["readinessProbe"]
    python, *arguments = probe_of_server["exec"]["command"]
    assert python == "python"
    service = LatentService(Lifecycle(), Admission(1, 1))
    server = await start_metrics_server(service, "127.0.0.1", 0)
    command = [argument.replace("9090", str(server.port)) for argument in arguments]
    try:
        statuses = []
        for state in (State.LOADING, State.SERVING):
            service.lifecycle.transition_to(state)
            probe = await asyncio.create_subprocess_exec(sys.executable, *command)
            statuses.append(await probe.wait())
    finally:
        await server.stop()
    assert statuses == [1, 0]
