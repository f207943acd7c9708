"""deploy/envoy: Envoy accepts the files, and they fit the schema, the servers and their limits."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from codec_http.connection import IDLE_TIMEOUT_S
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import (
    MAP_HASH_KEY,
    MAP_PIN_KEY,
    MODE_KEY,
    MODEL_KEY,
    PARAMETERS_KEY,
    REQUEST_ID_KEY,
    RETRY_AFTER_KEY,
    SEED_KEY,
)
from codec_wire.http import READINESS_PATH
from core.admission import MAX_RETRY_AFTER_S
from core.input_image import MAX_IMAGE_BYTES
from core.settings import Settings
from scripts.envoy_descriptors import TARGET, descriptor_set
from tests.support.certificates import Authority
from tests.support.envoy import (
    ENVOY,
    FOLDER,
    Config,
    add_jwt,
    connection_manager,
    cors_policy,
    filters_of,
    load,
    needs_envoy,
)

CONFIG = load("envoy.yaml")
LISTENERS: list[Config] = CONFIG["static_resources"]["listeners"]
CLUSTERS: dict[str, Config] = {cluster["name"]: cluster for cluster in CONFIG["static_resources"]["clusters"]}
SERVICE = pb.DESCRIPTOR.services_by_name["LatentService"].full_name


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def default_of(setting: str) -> Any:
    return Settings.model_fields[setting].default


def upstream_routes() -> list[dict[str, Any]]:
    """Return the routes of both listeners that lead to servers and are not for CORS."""
    hosts = [host for listener in LISTENERS for host in connection_manager(listener)["route_config"]["virtual_hosts"]]
    return [route["route"] for host in hosts for route in host["routes"] if "retry_policy" in route.get("route", {})]


def validate(path: Path) -> None:
    """Fail unless Envoy accepts the configuration in `path` without warnings."""
    assert ENVOY is not None
    command: list[str | Path] = [ENVOY, "--mode", "validate", "--log-level", "warning", "-c", path]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"configuration '{path}' OK\n"


@needs_envoy
def test_envoy_accepts_the_configuration() -> None:
    validate(FOLDER / "envoy.yaml")


@needs_envoy
def test_envoy_accepts_the_configuration_with_authentication(tmp_path: Path) -> None:
    config = load("envoy.yaml")
    add_jwt(config, Authority(tmp_path / "ca").file)
    path = tmp_path / "jwt.yaml"
    path.write_text(yaml.safe_dump(config))
    validate(path)


def test_descriptors_are_those_of_the_schema() -> None:
    assert TARGET.read_bytes() == descriptor_set(), "run `make proto`"


def test_both_ports_of_a_server_are_checked_for_health() -> None:
    ports = {}
    for name, cluster in CLUSTERS.items():
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        ports[name] = endpoint["endpoint"]["address"]["socket_address"]["port_value"]
    assert ports == {"codec_grpc": default_of("grpc_port"), "codec_http": default_of("port")}
    grpc, http = (CLUSTERS[name]["health_checks"][0] for name in ports)
    assert grpc["grpc_health_check"] == {"service_name": SERVICE}
    assert http["http_health_check"] == {"path": READINESS_PATH, "host": "localhost"}


def test_responses_take_as_long_as_the_server_allows() -> None:
    for listener in LISTENERS:
        timeout = seconds(connection_manager(listener)["stream_idle_timeout"])
        assert timeout > default_of("request_timeout_s")
    assert [route["timeout"] for route in upstream_routes()] == ["0s", "0s"]


def test_idle_connections_are_closed_before_the_server_closes_them() -> None:
    (options,) = CLUSTERS["codec_http"]["typed_extension_protocol_options"].values()
    assert seconds(options["common_http_protocol_options"]["idle_timeout"]) < IDLE_TIMEOUT_S


def test_retries_wait_as_long_as_servers_may_ask_for() -> None:
    for route in upstream_routes():
        hints = route["retry_policy"]["rate_limited_retry_back_off"]
        assert hints["reset_headers"] == [{"name": RETRY_AFTER_KEY, "format": "SECONDS"}]
        assert seconds(hints["max_interval"]) == MAX_RETRY_AFTER_S


def test_largest_request_fits_as_json() -> None:
    transcoder = next(item["typed_config"] for item in filters_of(LISTENERS[0]) if "services" in item["typed_config"])
    assert transcoder["services"] == [SERVICE]
    assert transcoder["max_request_body_size"] >= (2 * MAX_IMAGE_BYTES + 2**20) * 4 / 3


def test_pages_may_send_and_read_the_metadata_of_the_protocol() -> None:
    policy = cors_policy(CONFIG)
    sent, read = (set(re.split(r",\s*", policy[name])) for name in ("allow_headers", "expose_headers"))
    assert {"content-type", "authorization", MAP_PIN_KEY, REQUEST_ID_KEY} < sent
    assert {MAP_HASH_KEY, MODEL_KEY, SEED_KEY, PARAMETERS_KEY, MODE_KEY, REQUEST_ID_KEY, RETRY_AFTER_KEY} < read
