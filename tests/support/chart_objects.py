"""The objects of the Helm chart, and what tests read from them."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from scripts.kubernetes_manifests import find_helm, render
from tests.support.chart_values import CASES

Object = dict[str, Any]

needs_helm = pytest.mark.skipif(find_helm() is None, reason="helm is not installed; run `make helm`")


@cache
def rendered(case: str) -> tuple[Object, ...]:
    """Return the objects of the chart for the values of this name in CASES. Tests must not change them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "values.yaml"
        path.write_text(json.dumps(CASES[case]))  # JSON is YAML
        return tuple(item for item in yaml.safe_load_all(render("--values", str(path))) if item)


def of_kind(objects: tuple[Object, ...], kind: str) -> dict[str, Object]:
    """Return the objects of `kind` by name."""
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def deployments(objects: tuple[Object, ...]) -> Iterator[tuple[Object, Object, Object]]:
    """Yield the pod template of each Deployment, its specification and its container."""
    for deployment in of_kind(objects, "Deployment").values():
        template = deployment["spec"]["template"]
        (container,) = template["spec"]["containers"]
        yield template, template["spec"], container


def container_of(objects: tuple[Object, ...], command: str) -> Object:
    """Return the container that runs `command`: serve or gateway."""
    (found,) = [container for _, _, container in deployments(objects) if container["args"] == [command]]
    return found


def variables(container: Object) -> dict[str, str]:
    """Return the environment of a container; variables from Secrets have the value `secret`."""
    return {item["name"]: item.get("value", "secret") for item in container["env"]}


def selected(labels: dict[str, str], selector: dict[str, str]) -> bool:
    """Return whether `selector` selects an object with these labels."""
    return selector.items() <= labels.items()
