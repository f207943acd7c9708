"""Fixture suites, which define the prompt, seed, steps and size of each golden image or video."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from codec_wire.errors import InvalidSettings, truncated_repr
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.model import ModelInfo

FixtureName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class Fixture(BaseModel):
    """One golden image or video. `resolution` is the side length in pixels. `frames` and `fps` are set only for videos.

    The side length is at least 11 pixels, because SSIM compares windows of 11x11 pixels. Unknown keys of a fixture are
    ignored, because the published fixtures file contains keys for other tools.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["image", "video"]
    resolution: int = Field(ge=11)
    seed: int = Field(ge=0)
    prompt: str = Field(min_length=1)
    steps: int = Field(ge=1)
    fps: int | None = Field(None, ge=1)
    frames: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _validate_timing(self) -> Self:
        if (self.kind == "video") != (self.fps is not None) or (self.kind == "image" and self.frames != 1):
            raise ValueError("a video must have both fps and frames, and an image must have neither fps nor frames")
        return self

    @property
    def modality(self) -> Modality:
        """Modality of the request that generates the fixture."""
        return Modality.IMAGE if self.kind == "image" else Modality.VIDEO

    @property
    def request(self) -> GenerationRequest:
        """Request that generates the latents of the fixture with the lossless encoding pipeline `raw`."""
        return GenerationRequest(
            prompt=self.prompt,
            modality=self.modality,
            pipeline="raw",
            size=(self.resolution, self.resolution),
            steps=self.steps,
            seed=self.seed,
            fps=self.fps,
            frames=self.frames if self.kind == "video" else None,
        )


class FixtureSuite(BaseModel):
    """The content of a fixtures file. `suite` is the name that identifies the suite in a map's quality_thresholds."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    suite: str = Field("latent-fixtures-1", min_length=1)
    fixtures: dict[FixtureName, Fixture] = Field(min_length=1)

    def select(self, names: Sequence[str] | None) -> dict[str, Fixture]:
        """Return the fixtures that `names` lists, or all fixtures if `names` is not given.

        Raises InvalidSettings if a name is unknown.
        """
        unknown = [name for name in names or () if name not in self.fixtures]
        if unknown:
            raise InvalidSettings(
                f"--fixtures: {truncated_repr(unknown[0])} not found; the file contains {', '.join(self.fixtures)}"
            )
        return {name: self.fixtures[name] for name in names or self.fixtures}

    def supported_by(self, model: ModelInfo, names: Sequence[str] | None) -> tuple[dict[str, Fixture], list[str]]:
        """Return the fixtures that `model` can generate, and a message for each fixture that is skipped.

        If `names` is given, only the fixtures in `names` are returned. Raises InvalidSettings if a name is unknown, if
        `model` cannot generate a fixture in `names`, or if no fixture is left.
        """
        selected = self.select(names)
        unsupported = {name: reason for name, one in selected.items() if (reason := _unsupported_reason(one, model))}
        if unsupported and (names or len(unsupported) == len(selected)):
            name, reason = next(iter(unsupported.items()))
            raise InvalidSettings(f"--fixtures {name}: {reason}")
        skipped = [f"{name} is skipped: {reason}" for name, reason in unsupported.items()]
        return {name: one for name, one in selected.items() if name not in unsupported}, skipped


def _unsupported_reason(fixture: Fixture, model: ModelInfo) -> str | None:
    if fixture.modality not in model.modalities:
        return f"{model.name} supports {', '.join(model.modalities)} only"
    if fixture.resolution % model.size_multiple:
        return f"{model.name} needs a size that is a multiple of {model.size_multiple}, got {fixture.resolution}"
    limits = model.limits
    if fixture.resolution > limits.max_side or fixture.frames > limits.max_frames:
        return f"{model.name} supports at most {limits.max_side} pixels per side and {limits.max_frames} frames"
    return None


def read_suite(path: Path | None) -> FixtureSuite:
    """Return the fixture suite in the file at `path`, or the published suite if `path` is not given.

    Raises InvalidSettings if the file cannot be read or is not valid.
    """
    try:
        text = path.read_text() if path else resources.files("codec_golden").joinpath("fixtures.json").read_text()
        return FixtureSuite.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"cannot read the fixtures file {path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidSettings(
            f"fixtures file {path}: {key}: {first['msg']}, got {truncated_repr(first['input'])}"
        ) from None
