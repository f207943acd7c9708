"""The restricted Pod Security Standard of Kubernetes, as a check of the specification of a pod.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/, the controls of the baseline and the
restricted level. Kubernetes applies them to namespaces with the label `pod-security.kubernetes.io/enforce: restricted`.
"""

from collections.abc import Iterator
from typing import Any

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(pod: dict[str, Any]) -> list[str]:
    """Return the fields of a pod specification that the restricted standard does not allow; empty if it complies."""
    found = [f"{name} must not be true" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    for volume in pod.get("volumes", []):
        found += [f"volume {volume['name']}: {kind}" for kind in volume if kind not in {"name", *ALLOWED_VOLUMES}]
    context = pod.get("securityContext", {})
    found += [f"sysctl {item['name']}" for item in context.get("sysctls", []) if item["name"] not in SAFE_SYSCTLS]
    found += [f"pod: {text}" for text in _of_context(context)]
    for container in _containers(pod):
        found += [f"{container['name']}: {text}" for text in _of_container(container, context)]
    return found


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(kind, [])


def _of_context(context: dict[str, Any]) -> Iterator[str]:
    """Yield violations of fields that the security contexts of pods and containers have in common."""
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess must not be true"
    if context.get("appArmorProfile", {}).get("type") not in (None, "RuntimeDefault", "Localhost"):
        yield "appArmorProfile"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if context.get("runAsUser") == 0:
        yield "runAsUser must not be 0"
    if context.get("seccompProfile", {}).get("type") not in (None, "RuntimeDefault", "Localhost"):
        yield "seccompProfile"


def _of_container(container: dict[str, Any], pod_context: dict[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    yield from _of_context(context)
    if context.get("privileged"):
        yield "privileged must not be true"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation must be false"
    if context.get("runAsNonRoot", pod_context.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot must be true"
    if not {**pod_context, **context}.get("seccompProfile", {}).get("type"):
        yield "seccompProfile is required"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities must drop ALL"
    if not {*capabilities.get("add", [])} <= {"NET_BIND_SERVICE"}:
        yield "capabilities must not be added"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
    hooks = container.get("lifecycle", {})
    handlers = [container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")]
    handlers += [hooks.get("postStart", {}), hooks.get("preStop", {})]
    if any(handler.get(action, {}).get("host") for handler in handlers for action in ("httpGet", "tcpSocket")):
        yield "host of a probe or hook"
