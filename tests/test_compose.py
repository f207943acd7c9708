"""deploy/compose.yaml is valid, and fits the settings, Prometheus' configuration and Grafana's provisioning."""

import json
import os
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from codec_server.runner import CANCEL_TIMEOUT_S
from core.settings import read_settings
from core.unknown_variables import unknown_variables

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("server-1", "server-2", "gateway")
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"


def interpolated(value: str) -> str:
    """Return `value` with the defaults of variables, as Compose replaces them: ${NAME:-DEFAULT}."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def mounts(service: str) -> dict[str, str]:
    """Return {path in the container: source} of the volumes of a service."""
    return {target: source for source, target, *_ in (item.split(":") for item in SERVICES[service].get("volumes", []))}


def test_file_complies_with_the_compose_specification() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(COMPOSE)


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings_that_a_server_accepts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {key: interpolated(value) for key, value in SERVICES[name]["environment"].items()}
    assert unknown_variables(environment) == []
    for variable in [key for key in os.environ if key.startswith("CODEC_")]:
        monkeypatch.delenv(variable)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    settings = read_settings({})
    assert settings.metrics_port == 9090
    grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace >= settings.drain_timeout_s + CANCEL_TIMEOUT_S + 10


def test_gateway_is_connected_to_the_servers() -> None:
    host, _, port = SERVICES["gateway"]["environment"]["CODEC_UPSTREAM"].partition(":")
    assert all(host in SERVICES[name]["networks"]["default"]["aliases"] for name in OURS if name != "gateway")
    assert int(port) == read_settings({}).grpc_port


@pytest.mark.parametrize("name", OURS)
def test_containers_are_hardened(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    temporary = {entry.split(":")[0] for entry in service["tmpfs"]}
    assert temporary | {*mounts(name)} == {"/models", "/tmp"}


def test_ports_are_published_on_loopback_only_and_without_metrics_of_ours() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "gateway": ["127.0.0.1:8080:8080"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_mounted_files_and_volumes_exist() -> None:
    for name in SERVICES:
        for source in mounts(name).values():
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_prometheus_reads_the_metrics_of_all_services_and_the_alerts() -> None:
    configuration = yaml.safe_load(PROMETHEUS.read_text())
    (job,) = configuration["scrape_configs"]
    (group,) = job["static_configs"]
    assert group["targets"] == [f"{name}:{SERVICES[name]['environment']['CODEC_METRICS_PORT']}" for name in OURS]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert {f"/etc/prometheus/{rule}" for rule in configuration["rule_files"]} < {*mounts("prometheus")}


def test_grafana_has_the_dashboard_and_its_data_source() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["isDefault"], source["url"]) == ("prometheus", True, "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards/codec-diffusers.yaml").read_text())["providers"]
    assert f"{provider['options']['path']}/codec-diffusers.json" in mounts("grafana")
    assert "/etc/grafana/provisioning" in mounts("grafana")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_configuration() -> None:
    done = subprocess.run(["promtool", "check", "config", PROMETHEUS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
