"""What the golden pictures show: prompt, seed, steps and size of each, as a fixtures file has them."""

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
    """One picture or video. `resolution` is its side in pixels; `frames` and `fps` (a second) are a video's alone.

    SSIM's window is 11 pixels wide, and nothing smaller can be judged.
    Keys that are not listed here are ignored: the published fixtures file has some for other tools.
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
    def _has_the_timing_of_its_kind(self) -> Self:
        if (self.kind == "video") != (self.fps is not None) or (self.kind == "image" and self.frames != 1):
            raise ValueError("a video needs fps and frames, an image has neither")
        return self

    @property
    def modality(self) -> Modality:
        """What it asks of a model."""
        return Modality.IMAGE if self.kind == "image" else Modality.VIDEO

    @property
    def request(self) -> GenerationRequest:
        """The request that makes its latents: unchanged ones, by the pipeline `raw`."""
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
    """A fixtures file. `suite` names it in the latent-space map's quality_thresholds."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    suite: str = Field("latent-fixtures-1", min_length=1)
    fixtures: dict[FixtureName, Fixture] = Field(min_length=1)

    def named(self, names: Sequence[str] | None) -> dict[str, Fixture]:
        """Return the fixtures called `names`, all for None. Raises InvalidSettings for a name that is not there."""
        unknown = [name for name in names or () if name not in self.fixtures]
        if unknown:
            raise InvalidSettings(
                f"--fixtures: there is no {truncated_repr(unknown[0])}; there are {', '.join(self.fixtures)}"
            )
        return {name: self.fixtures[name] for name in names or self.fixtures}

    def supported_by(self, model: ModelInfo, names: Sequence[str] | None) -> tuple[dict[str, Fixture], list[str]]:
        """Return the fixtures called `names`, all for None, and a line for each that `model` cannot make.

        Raises InvalidSettings for a name that is not in the file, or one that was asked for and cannot be made.
        """
        wanted = self.named(names)
        refused = {name: reason for name, one in wanted.items() if (reason := _unsupported_reason(one, model))}
        if refused and (names or len(refused) == len(wanted)):
            name, reason = next(iter(refused.items()))
            raise InvalidSettings(f"--fixtures {name}: {reason}")
        left_out = [f"{name} is left out: {reason}" for name, reason in refused.items()]
        return {name: one for name, one in wanted.items() if name not in refused}, left_out


def _unsupported_reason(fixture: Fixture, model: ModelInfo) -> str | None:
    if fixture.modality not in model.modalities:
        return f"{model.name} makes {', '.join(model.modalities)}"
    if fixture.resolution % model.size_multiple:
        return f"{model.name} makes sides that are multiples of {model.size_multiple}"
    limits = model.limits
    if fixture.resolution > limits.max_side or fixture.frames > limits.max_frames:
        return f"{model.name} makes at most {limits.max_side} pixels a side and {limits.max_frames} frames"
    return None


def read_suite(path: Path | None) -> FixtureSuite:
    """Return the suite in the file at `path`, the published one for None. Raises InvalidSettings."""
    try:
        text = path.read_text() if path else resources.files("codec_golden").joinpath("fixtures.json").read_text()
        return FixtureSuite.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"cannot read the fixtures file {path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidSettings(
            f"fixtures file {path}: {place}: {first['msg']}, got {truncated_repr(first['input'])}"
        ) from None
