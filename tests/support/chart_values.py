"""Values of the Helm chart in deploy/helm, which enable what is off by default."""

from typing import Any

DIGEST = f"sha256:{'0' * 64}"

EVERYTHING: dict[str, Any] = {
    "image": {"digest": DIGEST},
    "imagePullSecrets": [{"name": "registry"}],
    "server": {
        "settings": {
            "CODEC_MODEL": "org/model",
            "CODEC_MAX_COST": 20_000_000_000,
            "CODEC_REQUEST_TIMEOUT_S": 90.5,
            "CODEC_REQUIRE_PINS": True,
            "CODEC_LOG_FORMAT": "json",
        },
        "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
        "drainTimeoutSeconds": 120,
        "gpu": {"count": 1},
        "runtimeClassName": "nvidia",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "podAnnotations": {"example.com/a": "b"},
        "models": {"persistent": True, "accessMode": "ReadWriteMany", "storageClass": "files"},
        "apiKeys": {"secret": "keys"},
        "tls": {"secret": "server-tls", "clientCa": True},
        "huggingFaceToken": {"secret": "hub"},
        "service": {"type": "LoadBalancer", "annotations": {"example.com/a": "b"}},
        "autoscaling": {"enabled": True, "activeCost": 5_000_000_000},
    },
    "gateway": {
        "enabled": True,
        "settings": {"CODEC_LOG_FORMAT": "json", "CODEC_PUBLIC_URL": "https://latents.example.com"},
        "apiKeys": {"secret": "gateway-keys"},
        "upstreamApiKey": {"secret": "upstream-key"},
        "tls": {"secret": "gateway-tls"},
    },
    "networkPolicy": {"extraEgress": [{"ports": [{"protocol": "TCP", "port": 4318}]}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}

SMALL: dict[str, Any] = {
    "image": {"tag": "0.1.0"},
    "server": {
        "readinessProbe": "grpc",
        "strategy": "Recreate",
        "models": {"existingClaim": "claim", "accessMode": "ReadOnlyMany"},
    },
    "gateway": {"enabled": True},
    "networkPolicy": {"from": [], "metricsFrom": [], "downloads": False},
}
"""A gateway without Secrets, gRPC probes, and the least that the network policy can allow."""

CASES = {"defaults": {}, "small": SMALL, "everything": EVERYTHING}
