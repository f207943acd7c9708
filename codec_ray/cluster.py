"""Connection of the server to a Ray cluster, deployment of models, and startup errors of replicas."""

import logging
import os
import re
import signal
import socket
from collections.abc import Mapping

import ray
from ray import serve
from ray._private import ray_constants
from ray.serve.schema import ApplicationStatusOverview, LoggingConfig

from codec_ray.app import APPLICATION, DEPLOYMENT, application, max_replicas
from codec_wire import errors
from codec_wire.errors import InvalidSettings, ModelLoadError, StartupError
from codec_wire.first_line import first_line
from core.settings import Settings

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
START_ATTEMPTS = 2
OBJECT_STORE_BYTES = 256 * 2**20
"""Size in bytes of Ray's object store if the server starts Ray.

The object store contains frames that are larger than 100 KB and have not been sent yet. If the object store is full,
Ray writes objects to disk.
"""
_CHATTY_LOGGERS = ("ray._private.worker", "ray._private.authentication", "ray.serve")
"""Loggers that log expected warnings, such as warnings about the signal handlers of the server.

The expected warnings can be disabled only with the level of the loggers.
"""
_ERROR = re.compile(r"codec_wire\.errors\.(\w+): (.+)")
"""Pattern of the last line of a CodecError's traceback."""


def connect(settings: Settings) -> None:
    """Connect to the Ray cluster at `settings.ray_address`.

    Without `settings.ray_address`, start Ray on the loopback interface. Raises InvalidSettings if the connection
    fails. Raises StartupError if Ray cannot be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    if settings.ray_address is None:
        cpus = max(os.cpu_count() or 1, max_replicas(settings) * (settings.threads or 1))
        _start(cpus)
        return
    try:
        _require_open_port(settings.ray_address)
        ray.init(settings.ray_address, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise InvalidSettings(
            f"CODEC_RAY_ADDRESS (--ray-address): cannot connect to {settings.ray_address}: {reason}"
        ) from error


def _start(cpus: int) -> None:
    """Start Ray on the loopback interface, with `cpus` CPU cores. Raises StartupError."""
    _listen_on_loopback()
    # By default Ray gives its workers niceness 15. On a machine with other busy processes, a replica then receives a
    # thirtieth of a core, and needs minutes to load a small model.
    os.environ.setdefault("RAY_worker_niceness", "0")
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                "local",
                num_cpus=cpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                logging_level=logging.WARNING,
                _node_ip_address="127.0.0.1",
            )
        except Exception as error:  # Ray raises this class if its processes take more than 30 seconds to start
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                raise StartupError(f"Ray cannot be started: {first_line(error)}") from error
            log.warning("Ray did not start, trying again: %s", first_line(error))
        else:
            return


def _listen_on_loopback() -> None:
    """Make Ray listen on the loopback interface, as Ray does by default on Windows and macOS.

    By default on Linux, Ray replaces the node address 127.0.0.1 with the machine's network address, and listens on all
    interfaces. This function sets an environment variable for the processes that Ray starts. This function also changes
    a value in Ray's module, because Ray has already read the environment variable in this process.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def _require_open_port(address: str) -> None:
    """Raise OSError if no server listens at `address` (HOST:PORT).

    Without this check, Ray would try to connect for minutes.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S):
            pass


def restore_sigterm_handler() -> None:
    """Install Python's SIGTERM handler again. Call this function on the main thread.

    When a process connects to Ray, Ray installs a handler that prints a stack trace and ends the process after 3
    seconds.
    """
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    signal.siginterrupt(signal.SIGTERM, False)  # as asyncio does


def deploy(settings: Settings, loader: str) -> None:
    """Deploy the model of `settings`, and wait until the model is loaded. Raises StartupError."""
    serve.start(proxy_location="Disabled", logging_config=LoggingConfig(log_level="WARNING"))
    try:
        serve.run(application(settings, loader), name=APPLICATION, route_prefix=None)
    except RuntimeError as error:
        raise startup_error(applications()[APPLICATION]) from error


def applications() -> Mapping[str, ApplicationStatusOverview]:
    """Return the status of every Serve application that runs a model, in a dictionary by application name.

    The application names are sorted. This function blocks.
    """
    found = serve.status().applications
    return {name: found[name] for name in sorted(found) if DEPLOYMENT in found[name].deployments}


def running_replicas(status: ApplicationStatusOverview) -> int:
    """Return the number of replicas that accept jobs."""
    return status.deployments[DEPLOYMENT].replica_states.get("RUNNING", 0)  # type: ignore[call-overload,no-any-return]


def startup_error(status: ApplicationStatusOverview) -> StartupError:
    """Return the error that explains why an application cannot be deployed.

    The error is parsed from the tracebacks of the application's replicas.
    """
    message = f"{status.message}\n{status.deployments[DEPLOYMENT].message}"
    found = _ERROR.findall(message)
    if not found:
        return ModelLoadError(f"the replicas cannot be started: {' '.join(message.split())}")
    name, reason = found[-1]
    cls = getattr(errors, name, ModelLoadError)
    return cls(reason) if issubclass(cls, StartupError) else ModelLoadError(reason)
