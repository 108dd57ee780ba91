"""What requests and answers of the service hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PictureFormat = Literal["png", "jpeg", "webp"]
FilmFormat = Literal["mp4", "webm", "webp", "gif"]

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z][0-9A-Za-z_.+-]*$")]
Amount = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=16, le=4096, description="Longest side at most, in pixels.")]
Rate = Annotated[float, Field(ge=1, le=120, description="Frames a second.")]
InversionId = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{22}$")]

MAX_AMOUNTS = 32

Amounts = Annotated[dict[Name, Amount], Field(max_length=MAX_AMOUNTS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="One sentence: what is wrong and how to mend it.")


class StepsDone(BaseModel):
    """How far an inversion has come."""

    kind: Literal["crop", "iteration", "step"]
    number: int


class InversionDocument(BaseModel):
    """An inversion of this service."""

    id: str
    state: Literal["queued", "running", "done", "failed"]
    progress: StepsDone | None = None
    problem: str | None = Field(None, description="Why it failed.")
    notice: str | None = Field(None, description="Where no face was found.")
    bundle: str | None = None
    method: str | None = None
    settings: dict[str, Any] | None = None
    iterations: int | None = None
    computed: dict[str, str] | None = Field(None, description="Backend, provider and precision.")
    picture: str | None = Field(None, description="SHA-256 of the file that was inverted.")
    in_photo: bool | None = Field(None, description="Whether it can be set back into its photo.")
    has_crop: bool | None = Field(None, description="Whether the input can be had again.")


class Sweep(_Strict):
    """One direction from an amount to another, frame by frame."""

    direction: Name
    start: Amount = -3.0
    stop: Amount = 3.0
    frames: Annotated[int, Field(ge=2)] = 48
    back: bool = Field(True, description="Whether the film goes back to where it began.")


class EditRequest(_Strict):
    """What to change of a face: a picture, or with a sweep a film."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"amounts": {"smile": 2.0, "age": -1.0}, "format": "jpeg"},
                {"sweep": {"direction": "smile", "frames": 24}, "film": "gif"},
            ]
        },
    )

    amounts: Amounts = Field(default_factory=dict)
    format: PictureFormat = "png"
    size: Size | None = None
    sweep: Sweep | None = None
    film: FilmFormat | None = Field(None, description="Of a sweep; mp4 where it can be written.")
    rate: Rate = 24.0

    @model_validator(mode="after")
    def _film_of_sweep(self) -> EditRequest:
        if self.film is not None and self.sweep is None:
            raise ValueError("a film needs a sweep; name its direction")
        return self


class InterpolationRequest(_Strict):
    """Two faces, and what of the way between them is wanted."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"first": "A" * 22, "second": "B" * 22, "frames": 24, "film": "gif"}]
        },
    )

    first: InversionId
    second: InversionId
    fraction: Annotated[float, Field(ge=-1, le=2, allow_inf_nan=False)] | None = Field(
        None, description="One picture: 0 is the first face, 1 the second."
    )
    format: PictureFormat = "png"
    size: Size | None = None
    frames: Annotated[int, Field(ge=2)] = 48
    film: FilmFormat | None = Field(None, description="mp4 where it can be written, else gif.")
    rate: Rate = 24.0


class AdaptationRequest(_Strict):
    """An inversion, and the fine-tuned generator that is to render it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"inversion": "A" * 22, "bundle": "toon"}]},
    )

    inversion: InversionId
    bundle: Name
    noise_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(
        None, description="Of fresh noise; without it the stored noise is used."
    )
    format: PictureFormat = "png"
    size: Size | None = None


class DirectionDocument(BaseModel):
    """A direction of the bundle."""

    name: str
    unit: str = Field(description="What an amount of 1 is.")


class MethodDocument(BaseModel):
    """A method of the bundle."""

    name: str
    iterations: int
    is_default: bool


class BundleDocument(BaseModel):
    """The bundle that is served."""

    name: str
    digest: str
    domain: str
    license: str
    height: int
    width: int
    methods: list[MethodDocument]
    gradient_steps: list[str] = Field(description="Presets that can follow a method.")
    then: str | None = Field(None, description="Preset that follows where nothing else is named.")
    directions: list[DirectionDocument]
    adapted: list[str] = Field(description="Adapted bundles that render its inversions.")
    films: list[str] = Field(description="Formats of films that can be written here.")


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok", "degraded"]
    version: str
    workers: int
    waiting: int
