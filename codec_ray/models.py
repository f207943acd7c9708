"""The models that a server offers on a Ray cluster, which follow the replicas that are running."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatusOverview

from codec_ray.app import DEPLOYMENT
from codec_ray.cluster import applications, connect, deploy, restore_sigterm_handler, running_replicas, startup_error
from codec_ray.engine import RayEngine, RayTensorVae, RayVae
from codec_ray.messages import ReplicaInfo
from codec_ray.model_loader import LOADER
from codec_wire.errors import NotReady
from core.decoder_file import find_decoder
from core.lifecycle import RETRY_AFTER_S, State
from core.pins import Provenance
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 2.0
CALL_TIMEOUT_S = 10.0
"""Time in seconds within which all replicas must respond to a call of the server."""


@dataclass(frozen=True, slots=True, eq=False)
class _Described:
    """Description of the models that the replicas of a Serve application run. See ReplicaInfo.

    All described replicas have the version `version`.
    """

    version: str
    handle: DeploymentHandle[Any]
    models: tuple[ModelInstance, ...]
    provenance: Provenance


class RayModels:
    """The models that are deployed on a Ray cluster. The server process itself loads no model."""

    def __init__(self, settings: Settings, loader: str = LOADER) -> None:
        self._settings = settings
        self._loader = loader
        self._described: dict[str, _Described] = {}
        """Descriptions of the Serve applications with served models, in a dictionary by application name."""
        self._versions: dict[str, asyncio.Future[str]] = {}
        """The latest request for the version of each application, in a dictionary by application name.

        A busy replica responds late, so a pending request can stay in this dictionary for a long time.
        """
        self._connecting = False

    async def start_serving(self, service: LatentService) -> None:
        """Connect to Ray, deploy the model if the cluster has no models, then let `service` serve the deployed models.

        This method does not block the event loop. Raises StartupError.
        """
        self._connecting = True
        await asyncio.to_thread(self._connect)
        self._connecting = False
        restore_sigterm_handler()
        while not await self.update(service):  # noqa: ASYNC110 - the controller of Serve has no events
            await asyncio.sleep(POLL_INTERVAL_S)

    async def follow(self, service: LatentService) -> None:
        """Keep the models, the state and the job limits of `service` up to date. Runs until cancelled."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                await self.update(service)
            except Exception:  # the controller of Serve may be restarted
                log.exception("cannot get the state of the replicas")

    def free(self) -> bool:
        """Disconnect from Ray, and stop Ray if this process has started Ray.

        Return False if the connection is still being established.
        """
        for described in self._described.values():
            described.handle.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
        return not self._connecting

    def _connect(self) -> None:
        connect(self._settings)
        if self._settings.ray_address is not None:
            found = applications()
            if found:
                log.info("serving the models that are deployed on the cluster: %s", ", ".join(found))
                return
        deploy(self._settings, self._loader)

    async def update(self, service: LatentService) -> bool:
        """Update the models and limits of `service` once; return whether any replica accepts jobs.

        Raises StartupError if a deployment failed and no replica has accepted jobs so far.
        """
        found = await asyncio.to_thread(applications)
        if not any(map(running_replicas, found.values())):
            failed = [status for status in found.values() if status.status == "DEPLOY_FAILED"]
            if failed and not self._described:
                raise startup_error(failed[0])
            if service.lifecycle.state is State.SERVING:
                log.warning("no replica is running")
                service.lifecycle.transition_to(State.LOADING)
            return False
        await self._describe(service, found)
        service.admission.set_devices(sum(map(running_replicas, found.values())))
        if service.lifecycle.state is State.LOADING:
            service.lifecycle.transition_to(State.SERVING)
        return True

    async def _describe(self, service: LatentService, found: Mapping[str, ApplicationStatusOverview]) -> None:
        """Replace the models of `service` if applications were deployed, updated or deleted.

        The models of an application that currently has no running replicas are kept. Requests for models without
        running replicas wait until a replica is running.
        """
        kept = {name: described for name, described in self._described.items() if name in found}
        for name, status in found.items():
            known = kept.get(name)
            if known is None:
                if running_replicas(status) > 0:
                    handle = serve.get_deployment_handle(DEPLOYMENT, name)
                    kept[name] = await _describe(handle, self._settings.models_dir)
            elif self._may_be_updated(name, known, status):
                newer = await _newer_version(known)
                if newer is not None:
                    log.info("the application %s was updated", name)
                    kept[name] = await _describe(known.handle, self._settings.models_dir, newer)
        if kept != self._described:
            for name, old in self._described.items():
                if name not in kept:
                    old.handle.shutdown()  # type: ignore[no-untyped-call]
            self._described = kept
            service.models.replace(model for described in kept.values() for model in described.models)
            service.provenance = next(iter(kept.values())).provenance

    def _may_be_updated(self, name: str, known: _Described, status: ApplicationStatusOverview) -> bool:
        """Return whether replicas may have a version other than `known.version`.

        Replicas may have a version other than `known.version` while the application is not in the state RUNNING.
        Replicas may also have a version other than `known.version` if a replica has reported another version since the
        last call of this method. This method also requests the version of the application again, unless the previous
        request for the version is still pending.
        """
        requested = self._versions.get(name)
        if requested is not None and not requested.done():
            return status.status != "RUNNING"
        self._versions[name] = asyncio.ensure_future(known.handle.version.remote())
        reported = None if requested is None or requested.exception() is not None else requested.result()
        return status.status != "RUNNING" or reported not in (None, known.version)


async def _newer_version(known: _Described) -> str | None:
    """Return the most common version of the replicas, or None if no version is more common than `known.version`."""
    try:
        found = await known.handle.broadcast("version").results_async(timeout_s=CALL_TIMEOUT_S, return_exceptions=True)
    except (RayServeException, TimeoutError):  # no replica is running, or one does not respond
        return None
    counts = Counter(version for version in found if isinstance(version, str))
    version, count = max(counts.items(), key=lambda item: item[1], default=(known.version, 0))
    return version if count > counts[known.version] else None


async def _info(handle: DeploymentHandle[Any], version: str) -> ReplicaInfo:
    """Return the description of a running replica with the version `version`.

    Raises NotReady if no replica with the version `version` is left.
    """
    found = await handle.broadcast("info").results_async(timeout_s=CALL_TIMEOUT_S, return_exceptions=True)
    for info in found:
        if isinstance(info, ReplicaInfo) and info.version == version:
            return info
    raise NotReady("the replicas are being replaced", RETRY_AFTER_S)


async def _describe(handle: DeploymentHandle[Any], models_dir: Path, version: str | None = None) -> _Described:
    """Return the models of an application, with engines that use the replicas with `version`.

    Without `version`, the version that any replica reports is used.

    The server process reads and serves the files of exported decoders itself. Replicas may be on nodes that do not have
    the files of exported decoders.
    """
    info: ReplicaInfo = await (handle.info.remote() if version is None else _info(handle, version))
    streaming = handle.options(stream=True)  # has the same router
    models = []
    for described in info.models:
        instance = described.instance
        name = instance.model.name
        models.append(
            replace(
                instance,
                engine=RayEngine(streaming, info.version) if described.generates else None,
                vae=RayVae(streaming, info.version) if described.decodes else None,
                tensor_vae=RayTensorVae(streaming, info.version, name) if described.decodes_tensors else None,
                decoder=await asyncio.to_thread(find_decoder, models_dir, instance.bundle),
            )
        )
    return _Described(info.version, handle, tuple(models), info.provenance)
