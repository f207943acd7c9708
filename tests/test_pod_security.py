"""The check of the restricted Pod Security Standard finds what the standard does not allow."""

from copy import deepcopy
from typing import Any

import pytest

from tests.support.pod_security import violations

COMPLIANT: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {"name": "a", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
}


def test_pod_that_complies_has_no_violations() -> None:
    assert violations(COMPLIANT) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("hostNetwork",), True, "hostNetwork must not be true"),
        (("volumes", 0), {"name": "v", "hostPath": {"path": "/"}}, "volume v: hostPath"),
        (("securityContext", "runAsUser"), 0, "pod: runAsUser must not be 0"),
        (("securityContext", "runAsNonRoot"), False, "a: runAsNonRoot must be true"),
        (("securityContext", "seccompProfile"), {}, "a: seccompProfile is required"),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "pod: seccompProfile"),
        (("securityContext", "sysctls"), [{"name": "kernel.msgmax"}], "sysctl kernel.msgmax"),
        (("securityContext", "seLinuxOptions"), {"user": "root"}, "pod: seLinuxOptions"),
        (("securityContext", "appArmorProfile"), {"type": "Unconfined"}, "pod: appArmorProfile"),
        (("securityContext", "windowsOptions"), {"hostProcess": True}, "pod: hostProcess must not be true"),
        (("containers", 0, "securityContext", "privileged"), True, "a: privileged must not be true"),
        (("containers", 0, "securityContext", "runAsNonRoot"), False, "a: runAsNonRoot must be true"),
        (("containers", 0, "securityContext", "procMount"), "Unmasked", "a: procMount"),
        (("containers", 0, "securityContext", "capabilities"), {}, "a: capabilities must drop ALL"),
        (
            ("containers", 0, "securityContext", "capabilities", "add"),
            ["SYS_ADMIN"],
            "a: capabilities must not be added",
        ),
        (("containers", 0, "ports"), [{"hostPort": 80}], "a: hostPort"),
        (("containers", 0, "livenessProbe"), {"httpGet": {"host": "10.0.0.1"}}, "a: host of a probe or hook"),
        (
            ("initContainers",),
            [{"name": "i", "securityContext": {"capabilities": {"drop": ["ALL"]}}}],
            "i: allowPrivilegeEscalation must be false",
        ),
    ],
)
def test_violation_is_found(path: tuple[str | int, ...], value: Any, expected: str) -> None:
    pod = deepcopy(COMPLIANT)
    parent: Any = pod
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    assert expected in violations(pod)
