"""Config of stage 1. The defaults are the full run; configs/localize/demo.toml overrides them for `lumbar demo`."""

from typing import Annotated

from pydantic import Field, field_validator

from shared.labels import View
from shared.runtime.config import Config

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
ImageSide = Annotated[int, Field(ge=64, le=1280, multiple_of=32)]
NonNegative = Annotated[float, Field(ge=0)]


class ViewConfig(Config):
    """One view's detector: what it is shown and for how long."""

    box_mm: Annotated[float, Field(ge=4, le=120)] = 30.0
    """Side of a sagittal box. Axial: height of the box, whose width spans both subarticular points."""
    margin_mm: Annotated[float, Field(ge=1, le=60)] = 12.0
    """Axial only: from each subarticular point to the box's edge on its side."""
    mm_per_px: Annotated[float, Field(ge=0.2, le=5)] = 0.8
    """Slices are resampled to this: a level then has the same size whatever the scanner."""
    image_px: tuple[ImageSide, ImageSide] = (384, 256)
    """Rows and columns of a training image. Larger slices are cropped near their points; prediction sees them whole.
    One number means a square."""
    neighbours: Annotated[int, Field(ge=0, le=4)] = 1
    """Slices on each side of an annotated one that count as showing it too."""
    negatives: Annotated[float, Field(ge=0, le=4)] = 0.4
    """Slices without any level, per slice with one."""
    epochs: Annotated[int, Field(ge=1, le=2000)] = 60
    batch: Annotated[int, Field(ge=2, le=1024)] = 16
    augment_share: Fraction = 1.0
    """How much of [augment] this view's pictures get."""

    @field_validator("image_px", mode="before")
    @classmethod
    def _square(cls, value: object) -> object:
        return (value, value) if isinstance(value, int) else value


class ModelConfig(Config):
    """The network."""

    architecture: str = "yolo11s.yaml"
    """A model YAML that comes with Ultralytics."""
    weights: str = "none"
    """none; coco or imagenet (both download); or the path of a .pt file."""

    @field_validator("architecture")
    @classmethod
    def _is_yaml(cls, value: str) -> str:
        if not value.endswith(".yaml"):
            raise ValueError("expected a model YAML, for example yolo11n.yaml")
        return value


class OptimConfig(Config):
    """Optimisation."""

    optimizer: str = "AdamW"
    lr: Positive = 1e-3
    final_lr_fraction: Fraction = 0.02
    weight_decay: NonNegative = 5e-4
    warmup_epochs: NonNegative = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class AugmentConfig(Config):
    """Augmentation of training images. Nothing mirrors: head stays up and left stays left."""

    rotate_deg: NonNegative = 18.0
    scale: NonNegative = 0.32
    """Largest zoom, as the absolute natural logarithm of the factor."""
    shift: Fraction = 0.15
    """Largest shift, as a share of the image's side."""
    gamma: NonNegative = 0.7
    """Largest absolute natural logarithm of the exponent."""
    gain: NonNegative = 0.4
    """Largest absolute natural logarithm of the brightness factor."""
    bias: NonNegative = 0.9
    """Strength of a smooth brightness field (surface coil), in natural logarithms from edge to edge."""
    noise: NonNegative = 0.06
    """Largest standard deviation of noise, as a share of full scale."""
    blur_px: NonNegative = 1.0
    """Largest standard deviation of blur."""
    bend: NonNegative = 0.03
    """Largest standard deviation of a smooth distortion, as a share of the image's longer side."""
    tone: NonNegative = 0.14
    """Largest standard deviation of a random tone curve's knots, as a share of full scale."""
    shading: NonNegative = 0.7
    """Largest standard deviation of blotchy shading, in natural logarithms."""
    crop: Fraction = 0.5
    """Probability that a border band is blacked out, as if the field of view ended there."""

    def scaled(self, share: float) -> "AugmentConfig":
        """All strengths and probabilities times `share`."""
        return AugmentConfig(**{name: share * value for name, value in self.model_dump().items()})


class ChainConfig(Config):
    """Decoding of detections into one chain of five levels."""

    min_score: Fraction = 0.03
    merge_mm: Positive = 7.0
    """Detections nearer to each other than this in the sagittal plane are one place."""
    evidence_floor: Positive = 0.02
    """Score at which a detection says nothing; lower values make the chain trust the detector more."""
    missing_penalty: NonNegative = 1.0
    gap_inflation: Positive = 1.5
    """Factor on the fitted spread of the gaps between levels: new patients vary more than the training sample."""
    size_sd: NonNegative = 0.12
    """Spread of patients' sizes beyond the training sample, as the natural logarithm of a factor; 0 fixes the size."""
    lean_sd_deg: NonNegative = 7.0
    """Spread of the angle by which whole spines lean forward or back beyond the training sample; 0 fixes it."""
    t1_weight: NonNegative = 0.7
    """Weight of foraminal evidence beside the canal's."""
    axial_weight: NonNegative = 1.0
    """Weight of axial evidence beside the canal's."""
    shift_prior: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Probability, before any picture, that the detectors count the spine one disc too high; and as much too low."""
    naming_weight: Fraction = 0.2
    """Weight of evidence where numberings are compared: five names from one picture count as one witness."""


class AxialConfig(Config):
    """Assignment of axial slices to levels."""

    min_score: Fraction = 0.03
    evidence_floor: Positive = 0.03
    plane_sd_mm: Positive = 3.5
    """Spread of the distance from a level's 3-D point to the plane of its slice, beside the fitted one."""
    appearance_weight: NonNegative = 1.0
    unmirror: bool = True
    """Whether an axial series whose pixels fit the sagittal ones only when mirrored gets its sides from the pixels."""
    geometry: bool = True
    """Whether the chain's points say which level a slice shows; without, appearance and order alone do."""
    reach_mm: Positive = 14.0
    """A level farther than this from every plane is not on the series."""


class SlicesConfig(Config):
    """Which slices the detectors look at."""

    focused: bool = True
    """Only those that matter, and all of them where that leaves a doubt. False: all slices of every study."""
    midline_mm: Positive = 16.0
    """First look: sagittal T2 slices this near to the middle of their series."""
    foramen_mm: NonNegative = 4.0
    """T1 slices this near to an expected foramen, and one slice more."""
    level_mm: NonNegative = 2.0
    """Axial slices this near to a level, and one slice more."""
    min_score: Fraction = 0.5
    """A level of the chain below this score is a doubt."""


class LocalizeConfig(Config):
    """Everything that changes the results of stage 1."""

    sagittal_t1: ViewConfig = ViewConfig(box_mm=28.0, epochs=50)
    sagittal_t2: ViewConfig = ViewConfig(box_mm=30.0, epochs=60)
    axial_t2: ViewConfig = ViewConfig(
        box_mm=36.0, margin_mm=10.0, mm_per_px=0.7, image_px=(256, 256), epochs=40, augment_share=0.6
    )
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    augment: AugmentConfig = AugmentConfig()
    chain: ChainConfig = ChainConfig()
    axial: AxialConfig = AxialConfig()
    slices: SlicesConfig = SlicesConfig()

    def of_view(self, view: View) -> ViewConfig:
        """The section of one view."""
        return {
            View.SAGITTAL_T1: self.sagittal_t1,
            View.SAGITTAL_T2: self.sagittal_t2,
            View.AXIAL_T2: self.axial_t2,
        }[view]
