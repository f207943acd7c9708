"""Write deploy/kubernetes from the Helm chart, and the settings to the chart's values.schema.json.

Run by `make manifests` after a change of the chart or of a setting.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from codec_server.commands.gateway import SETTINGS as GATEWAY_SETTINGS
from codec_server.commands.serve import NOT_FOR_SERVE
from core.setting_field import PREFIX
from core.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "codec-diffusers"
SCHEMA = CHART / "values.schema.json"
MANIFESTS = ROOT / "deploy" / "kubernetes" / "codec-diffusers.yaml"
INSTALLED_HELM = ROOT / ".tools" / "bin" / "helm"
HEAD = """\
# codec-diffusers with the default values of the Helm chart in deploy/helm. Written by `make manifests`; do not edit.
# docs/kubernetes.md describes it.
"""
SET_BY_CHART = {
    "api_key",
    "api_keys_file",
    "drain_timeout_s",
    "grpc_port",
    "host",
    "image_digest",
    "metrics_port",
    "models_dir",
    "port",
    "tls_cert",
    "tls_client_ca",
    "tls_key",
}
"""Settings that the chart sets itself, or that must not be changed in a container."""

_KEYWORDS = ("type", "enum", "pattern", "minimum", "exclusiveMinimum", "maximum")


def find_helm() -> str | None:
    """Return the path of the program that `make helm` installs; None if it is not installed.

    A helm program in PATH is not used, because other releases have other messages and could render other text.
    """
    return str(INSTALLED_HELM) if INSTALLED_HELM.exists() else None


def render(*arguments: str) -> str:
    """Return the objects of the chart as YAML documents. `arguments` are passed to `helm template`.

    Raises CalledProcessError, with the message of helm in `stderr`, if a value is not allowed.
    """
    helm = find_helm()
    assert helm is not None, "helm is not installed; run `make helm`"
    command = [helm, "template", "codec-diffusers", str(CHART), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def manifests() -> str:
    """Return the content of deploy/kubernetes: the objects of the chart with its default values."""
    lines = [line.rstrip() for line in render().splitlines()]
    return HEAD + "\n".join(line for line in lines if line and not line.startswith("# Source:")) + "\n"


def with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the chart's values with the CODEC_* variables that the chart does not set itself."""
    server = {*Settings.model_fields} - {*NOT_FOR_SERVE} - SET_BY_CHART
    gateway = {*GATEWAY_SETTINGS, "log_format"} - {*NOT_FOR_SERVE} - SET_BY_CHART
    definitions = {"serverSettings": _settings_schema(server), "gatewaySettings": _settings_schema(gateway)}
    return schema | {"$defs": schema["$defs"] | definitions}


def _settings_schema(names: set[str]) -> dict[str, Any]:
    fields = Settings.model_json_schema(by_alias=False)["properties"]
    properties = {}
    for name in sorted(names):
        # The type of an optional setting is the first of two; the other is null.
        field = {**fields[name], **fields[name].get("anyOf", [{}])[0]}
        properties[PREFIX + name.upper()] = {key: field[key] for key in _KEYWORDS if key in field}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def main() -> int:
    """Write the files; return the process's exit status."""
    schema = with_settings(json.loads(SCHEMA.read_text()))
    SCHEMA.write_text(json.dumps(schema, indent=2) + "\n")
    MANIFESTS.write_text(manifests())
    return 0


if __name__ == "__main__":
    sys.exit(main())
