"""Registry of the models that a server serves."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from codec_wire.errors import MapMismatch, NotFound, NotReady, UnsupportedModality, truncated_repr
from codec_wire.http import DECODE_PATH, ENCODE_PATH, INFO_PATH, map_path
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.latent_rgb import LatentRgb
from codec_wire.request import GenerationRequest
from core.acceleration import Acceleration
from core.decode_plan import DecodePlan
from core.decoder_file import DecoderFile
from core.engine import Engine
from core.lifecycle import RETRY_AFTER_S, Lifecycle
from core.memory_model import MemoryModel
from core.model import ModelInfo
from core.model_selection import models_in_latent_space, models_named, select_model
from core.pixel_checks import PixelCheck
from core.plan import StreamPlan
from core.role import Role
from core.tensor_vae import TensorVae
from core.vae_engine import VaeEngine
from core.working_memory import NO_MEMORY, JobMemory


@dataclass(frozen=True, slots=True)
class ModelInstance:
    """A served model: the description, latent-space map and engine, and the name of the device that runs the model.

    The attribute `engine` has the value None if the server only decodes and encodes.
    """

    model: ModelInfo
    bundle: LatentMapBundle
    engine: Engine | None
    device: str
    pixel_checks: tuple[PixelCheck, ...] = ()
    """Results of comparing decoded latents with pixels of diffusers pipelines, or () if no pixels were compared."""
    vae: VaeEngine | None = None
    """Engine that decodes and encodes for clients, or None if this server cannot decode and encode."""
    tensor_vae: TensorVae | None = None
    """VAE that decodes and encodes plain tensors, or None if the VAE is not in this process."""
    memory: Mapping[Modality, MemoryModel] = field(default_factory=dict)
    """Dictionary that maps a modality to the MemoryModel that predicts the memory of jobs with this modality.

    Modalities whose memory was not measured are omitted.
    """
    latent_rgb: LatentRgb | None = None
    """Matrix that approximates the colours of latents without a VAE, or None if the latent space has no matrix."""
    acceleration: Acceleration = field(default_factory=Acceleration)
    """The mode and the switches with which the model generates."""
    decoder: DecoderFile | None = None
    """Exported decoder for browsers, or None if no decoder was exported for this latent-space map."""

    @property
    def role(self) -> Role:
        """What the server does with the model: only generate, only decode and encode, or both."""
        if self.engine is None:
            return Role.DECODER
        return Role.GENERATOR if self.vae is None else Role.ALL

    def memory_of(self, plan: StreamPlan) -> JobMemory:
        """Return the predicted memory for the generation of `plan`."""
        predictor = self.memory.get(plan.modality)
        return NO_MEMORY if predictor is None else predictor.generation(plan)

    def memory_of_received(self, plan: DecodePlan) -> JobMemory:
        """Return the predicted memory for decoding a received stream."""
        predictor = self.memory.get(plan.modality)
        return NO_MEMORY if predictor is None else predictor.received(plan)

    @property
    def generated_modalities(self) -> tuple[Modality, ...]:
        """The modalities that requests can generate, or an empty tuple without an engine."""
        return () if self.engine is None else self.model.modalities

    def require_engine(self) -> Engine:
        """Return the engine that generates latents.

        Raises UnsupportedModality if the server only decodes and encodes.
        """
        if self.engine is None:
            raise UnsupportedModality(
                f"this server does not generate, because its role is {self.role}. It only decodes and encodes "
                f"the latents of {self.model.name} ({DECODE_PATH} and {ENCODE_PATH}, gRPC Decode and Encode). "
                "Send generation requests to a server that runs without --role decoder",
                (),
            )
        return self.engine

    def require_vae(self) -> VaeEngine:
        """Return the engine that decodes and encodes latents.

        Raises UnsupportedModality if this server has no engine that decodes and encodes.
        """
        if self.vae is None:
            modalities = tuple(str(modality) for modality in self.model.modalities)
            raise UnsupportedModality(
                f"this server cannot decode or encode the latents of {self.model.name}, because its role is "
                f"{self.role}. Request latents (modality {' or '.join(modalities)}), and send them to a server "
                "that has the VAE, e.g. a server with --role decoder",
                modalities,
            )
        return self.vae

    def require_tensor_vae(self) -> TensorVae:
        """Return the VAE for plain tensors. Raises UnsupportedModality if the VAE is not in this process."""
        if self.tensor_vae is None:
            modalities = tuple(str(modality) for modality in self.model.modalities)
            raise UnsupportedModality(
                f"the VAE of {self.model.name} is not in this process. Send tensors to the server that runs the "
                "VAE, or send latent streams to this server",
                modalities,
            )
        return self.tensor_vae

    def require_map_hash(self, expected: str | None) -> None:
        """Check that the latent-space map has the hash that the client requires.

        The client requires the hash `expected`, in the format "sha256:<hex>".

        Without `expected`, nothing is checked.

        Raises MapMismatch if the hash of the map differs from `expected`. The MapMismatch contains both hashes.
        """
        if expected not in (None, self.bundle.hash):
            raise MapMismatch(
                f"the client requires the latent-space map {expected}, but this server has {self.bundle.hash} "
                f"(GET {map_path(self.bundle.latent_map.id)}, gRPC GetLatentMap)"
            )


class ServedModels:
    """The served models in order of preference. The first model is the default model.

    The registry is empty until the models are loaded. This class is not thread-safe: use it only from the event loop's
    thread.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._models: tuple[ModelInstance, ...] = ()

    def __iter__(self) -> Iterator[ModelInstance]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def replace(self, models: Iterable[ModelInstance]) -> None:
        """Replace the served models with `models`."""
        self._models = tuple(models)

    @property
    def default(self) -> ModelInstance | None:
        """The model for requests without a model name, or None if no model is loaded."""
        return self._models[0] if self._models else None

    def require_default(self) -> ModelInstance:
        """Return the model for requests without a model name. Raises NotReady if no model is loaded."""
        return self.require_all()[0]

    def require_all(self) -> tuple[ModelInstance, ...]:
        """Return every served model. Raises NotReady if no model is loaded."""
        if not self._models:
            raise self._not_ready()
        return self._models

    def for_request(self, request: GenerationRequest) -> ModelInstance:
        """Return the model for `request`.

        Raises NotReady if the server does not accept requests. Raises NotFound if no model has the requested name or
        latent space. Raises UnsupportedModality if no model with the requested name or latent space generates the
        modality.
        """
        self._lifecycle.require_serving()
        served = self._instance_of(select_model(request, self._infos()))
        served.require_engine()
        return served

    def for_plan(self, plan: StreamPlan) -> ModelInstance:
        """Return the model that `plan` was made for. Raises NotReady if this model is no longer served."""
        for instance in self._models:
            model = instance.model
            if (model.name, model.latent_space) == (plan.model, plan.header.latent_space_id) and (
                plan.modality in model.modalities
            ):
                return instance
        raise self._not_ready()

    def with_vae(self, latent_space: str | None, modality: Modality, name: str | None) -> ModelInstance:
        """Return a model whose VAE decodes or encodes latents, preferably a model that generates `modality`.

        `latent_space` is the id of a latent space, or None for any latent space. `name` is the name or an alias of a
        model, or None for any model. Raises NotReady if the server is not serving. Raises NotFound if no model matches.
        Raises UnsupportedModality if the matching model has no VAE.
        """
        self._lifecycle.require_serving()
        candidates = self._infos()
        if latent_space is not None:
            candidates = models_in_latent_space(latent_space, candidates)
        if name is not None:
            candidates = models_named(name, candidates)
        model = next((one for one in candidates if modality in one.modalities), candidates[0])
        served = self._instance_of(model)
        served.require_vae()
        return served

    def modalities(self) -> tuple[str, ...]:
        """Return the modalities that the models generate. Raises NotReady if no model is loaded."""
        instances = self.require_all()
        return tuple(dict.fromkeys(str(modality) for one in instances for modality in one.generated_modalities))

    def maps(self) -> dict[str, LatentMapBundle]:
        """Return the latent-space maps of all served models. The keys of the result are the ids of the latent spaces.

        If models share a latent space, the first model's map is returned. Raises NotReady if no model is loaded.
        """
        maps: dict[str, LatentMapBundle] = {}
        for instance in self.require_all():
            maps.setdefault(instance.bundle.latent_map.id, instance.bundle)
        return maps

    def zstd_dictionaries(self) -> dict[str, bytes]:
        """Return the zstd dictionaries of all latent-space maps.

        The keys of the result are the hashes of the zstd dictionaries. Raises NotReady if no model is loaded.
        """
        found: dict[str, bytes] = {}
        for instance in self.require_all():
            found |= instance.bundle.zstd_dictionaries()
        return found

    def require_map(self, latent_space: str | None) -> LatentMapBundle:
        """Return the latent-space map of `latent_space`.

        Without `latent_space`, return the latent-space map of the default model. Raises NotReady if no model is loaded,
        and NotFound if no model has this latent space.
        """
        if latent_space is None:
            return self.require_default().bundle
        return self._instance_of(models_in_latent_space(latent_space, self._infos())[0]).bundle

    def require_latent_rgb(self, latent_space: str | None) -> LatentRgb:
        """Return the latent-to-RGB matrix of `latent_space`.

        Without `latent_space`, return the latent-to-RGB matrix of the default model. Raises NotReady if no model is
        loaded, and NotFound if the latent space is unknown or has no matrix.
        """
        models = [self.require_default().model]
        if latent_space is not None:
            models = models_in_latent_space(latent_space, self._infos())
        found = next((one.latent_rgb for one in map(self._instance_of, models) if one.latent_rgb is not None), None)
        if found is None:
            raise NotFound(
                "latent_space",
                f"{models[0].latent_space} has no latent-to-RGB matrix on this server; build the matrix with "
                "`codec-diffusers map build`",
            )
        return found

    def require_decoder(self, digest: str) -> DecoderFile:
        """Return the exported decoder with the hash `digest`. The format of `digest` is "sha256:<hex>".

        Raises NotReady if no model is loaded. Raises NotFound if no model has a decoder with this hash, or if the file
        of the decoder has changed since the server was started.
        """
        for instance in self.require_all():
            decoder = instance.decoder
            if decoder is not None and decoder.hash == digest:
                if decoder.is_unchanged():
                    return decoder
                raise NotFound(
                    "hash", f"the file of the decoder {truncated_repr(digest)} has changed since the server was started"
                )
        raise NotFound("hash", f"{truncated_repr(digest)} not found; `decoders` in {INFO_PATH} lists the hashes")

    def _infos(self) -> list[ModelInfo]:
        return [instance.model for instance in self.require_all()]

    def _instance_of(self, model: ModelInfo) -> ModelInstance:
        for instance in self._models:
            if instance.model is model:
                return instance
        raise self._not_ready()

    def _not_ready(self) -> NotReady:
        return NotReady(f"the server is {self._lifecycle.state}", RETRY_AFTER_S)
