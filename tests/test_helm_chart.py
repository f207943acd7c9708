"""The Helm chart and what is written from it: wrong values are errors, and the written files are up to date."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from scripts.kubernetes_manifests import CHART, INSTALLED_HELM, MANIFESTS, SCHEMA, manifests, render, with_settings
from tests.support.chart_objects import needs_helm

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs/kubernetes.md").read_text()


@needs_helm
def test_helm_lint_has_no_warnings() -> None:
    done = subprocess.run([INSTALLED_HELM, "lint", "--strict", CHART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@needs_helm
def test_plain_manifests_are_the_chart_with_default_values() -> None:
    assert MANIFESTS.read_text() == manifests(), "run `make manifests`"


def test_schema_of_the_values_contains_the_settings() -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema == with_settings(schema), "run `make manifests`"


def test_chart_has_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)


@needs_helm
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("server.replica=2", "at '/server': additional properties 'replica' not allowed"),
        ("server.settings.CODEC_MODL=x", "at '/server/settings': additional properties 'CODEC_MODL' not allowed"),
        ("server.settings.CODEC_PORT=80", "at '/server/settings': additional properties 'CODEC_PORT' not allowed"),
        ("server.settings.CODEC_MAX_JOBS=many", "at '/server/settings/CODEC_MAX_JOBS': got string, want integer"),
        ("gateway.settings.CODEC_MODEL=x", "at '/gateway/settings': additional properties 'CODEC_MODEL' not allowed"),
        ("server.models.size=ten", "at '/server/models/size': 'ten' does not match pattern"),
        ("image.digest=latest", "at '/image/digest': 'latest' does not match pattern"),
        ("server.readinessProbe=grpc,server.tls.secret=a", "server.readinessProbe must be http"),
        ("server.tls.clientCa=true", "server.tls.clientCa needs server.tls.secret"),
        ("gateway.enabled=true,server.apiKeys.secret=a", "gateway.upstreamApiKey.secret is required"),
        ("server.models.persistent=true,server.models.accessMode=ReadOnlyMany", "a new claim is empty"),
        (
            "server.autoscaling.enabled=true,server.autoscaling.minReplicas=9",
            "maxReplicas must not be less than server.autoscaling.minReplicas",
        ),
    ],
)
def test_wrong_value_is_an_error_that_names_it(value: str, message: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        render("--set", value)
    assert message in error.value.stderr


@needs_helm
def test_helm_commands_of_the_guide_run() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if re.match(r"helm (template|lint) ", line)]
    assert len(commands) >= 3
    environment = os.environ | {"PATH": f"{INSTALLED_HELM.parent}:{os.environ['PATH']}"}
    for command in commands:
        shell = ["bash", "-c", command]
        done = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
