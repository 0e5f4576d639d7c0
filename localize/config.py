"""Config of stage 1. The defaults are those of the full run; configs/localize/demo.toml is that of `lumbar demo`."""

from typing import Annotated, Final

from pydantic import Field, field_validator

from shared.labels import View
from shared.runtime.config import Config

# Families of detectors that ship with Ultralytics, and their sizes.
FAMILIES: Final = ("yolov8", "yolo11", "yolo12", "yolo26")
# Starting weights that have a name.
SHIPPED: Final = "shipped"
STARTS: Final = ("none", SHIPPED, "coco", "imagenet")
ARCHITECTURES: Final = tuple(f"{family}{size}.yaml" for family in FAMILIES for size in "nsmlx")

Fraction = Annotated[float, Field(ge=0, le=1)]
# Far beyond any use, and far from where arithmetic overflows.
_MOST: Final = 1e6
Positive = Annotated[float, Field(gt=0, le=_MOST)]
ImageSide = Annotated[int, Field(ge=64, le=1280, multiple_of=32)]
NonNegative = Annotated[float, Field(ge=0, le=_MOST)]


class ViewConfig(Config):
    """One view's detector: what it sees, and how long it trains."""

    box_mm: Annotated[float, Field(ge=4, le=120)] = 30.0
    """Side of a sagittal box; height of an axial box, whose width spans both subarticular points."""
    margin_mm: Annotated[float, Field(ge=1, le=60)] = 12.0
    """Axial only: distance from each subarticular point to the box's edge on its side."""
    mm_per_px: Annotated[float, Field(ge=0.2, le=5)] = 0.8
    """Resolution that slices are resampled to, so that a level has the same size on every scanner."""
    image_px: tuple[ImageSide, ImageSide] = (384, 256)
    """Rows and columns of a training image; one number means a square. Larger slices are cropped around their points in
    training and seen whole in prediction."""
    neighbours: Annotated[int, Field(ge=0, le=4)] = 1
    """Slices on each side of an annotated slice that also count as showing its levels."""
    negatives: Annotated[float, Field(ge=0, le=4)] = 0.4
    """Number of slices without any level per slice with one."""
    epochs: Annotated[int, Field(ge=1, le=2000)] = 60
    batch: Annotated[int, Field(ge=2, le=1024)] = 16
    augment_share: Fraction = 1.0
    """Factor on all strengths and probabilities of [augment] for this view."""

    @field_validator("image_px", mode="before")
    @classmethod
    def _square(cls, value: object) -> object:
        return (value, value) if isinstance(value, int) else value


class ModelConfig(Config):
    """The network."""

    architecture: str = "yolo11s.yaml"
    """A detector that ships with Ultralytics: yolov8, yolo11, yolo12 or yolo26 in a size n, s, m, l or x."""
    weights: str = "none"
    """Starting weights: none; shipped, each view's detector that ships with the package; coco or imagenet, which are
    downloaded; or the path of a .pt or .safetensors file."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, value: str) -> str:
        # A YAML is half a program: the library evaluates what it names. Only its own are built.
        if value not in ARCHITECTURES:
            raise ValueError(f"expected {', '.join(FAMILIES)} with a size n, s, m, l or x, for example yolo11n.yaml")
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
    """Augmentation of training images. Nothing is mirrored: the head stays up, and left stays left."""

    rotate_deg: NonNegative = 18.0
    scale: NonNegative = 0.32
    """Largest zoom, as the absolute natural logarithm of the factor."""
    shift: Fraction = 0.15
    """Largest shift, as a fraction of the image's side."""
    gamma: NonNegative = 0.7
    """Largest absolute natural logarithm of the exponent."""
    gain: NonNegative = 0.4
    """Largest absolute natural logarithm of the brightness factor."""
    bias: NonNegative = 0.9
    """Largest strength of a smooth brightness field, as from a surface coil: natural logarithm, from edge to edge."""
    noise: NonNegative = 0.06
    """Largest standard deviation of noise, as a fraction of full scale."""
    blur_px: NonNegative = 1.0
    """Largest standard deviation of the blur."""
    bend: NonNegative = 0.03
    """Largest standard deviation of a smooth distortion, as a fraction of the image's longer side."""
    tone: NonNegative = 0.14
    """Largest standard deviation of the knots of a random tone curve, as a fraction of full scale."""
    shading: NonNegative = 0.7
    """Largest standard deviation of blotchy shading, as a natural logarithm."""
    crop: Fraction = 0.5
    """Probability that bands along the border are blacked out, as if the field of view ended there."""

    def scaled(self, share: float) -> "AugmentConfig":
        """The same config with all strengths and probabilities multiplied by `share`."""
        return AugmentConfig(**{name: share * value for name, value in self.model_dump().items()})


class ChainConfig(Config):
    """How detections are decoded into one chain of five levels."""

    min_score: Fraction = 0.03
    merge_mm: Positive = 7.0
    """Detections closer to each other than this in the sagittal plane form one place."""
    evidence_floor: Positive = 0.02
    """Score that counts as no evidence; a lower value makes the chain trust the detector more."""
    missing_penalty: NonNegative = 1.0
    """Price, in log evidence, of a level that has no place."""
    gap_inflation: Positive = 1.5
    """Factor on the fitted spread of the gaps between levels: new patients vary more than the training studies."""
    size_sd: NonNegative = 0.12
    """Spread of patients' sizes beyond that of the training studies, as the natural log of a factor; 0 fixes it."""
    lean_sd_deg: NonNegative = 7.0
    """Spread of how far whole spines lean forward or back, beyond that of the training studies; 0 fixes it."""
    t1_weight: NonNegative = 0.7
    """Weight of evidence from sagittal T1, relative to sagittal T2."""
    axial_weight: NonNegative = 1.0
    """Weight of evidence from axial T2, relative to sagittal T2."""
    shift_prior: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Prior probability that the detectors number the spine one disc too high, and likewise one too low."""
    naming_weight: Fraction = 0.2
    """Weight of evidence when numberings are compared: five names from one image are not independent."""


class AxialConfig(Config):
    """How axial slices are assigned to levels."""

    min_score: Fraction = 0.03
    evidence_floor: Positive = 0.03
    """Score that counts as no evidence."""
    plane_sd_mm: Positive = 3.5
    """Standard deviation of the distance from a level's 3-D point to the plane of its slice."""
    appearance_weight: NonNegative = 1.0
    """Weight of the detector's scores, relative to the distance from the level's point."""
    unmirror: bool = True
    """Whether sides come from the pixels in an axial series that matches the sagittal series only when mirrored."""
    geometry: bool = True
    """Whether the chain's points help to decide which level a slice shows; otherwise scores and order alone decide."""
    reach_mm: Positive = 14.0
    """A level that is farther than this from every plane is not on the series."""


class SlicesConfig(Config):
    """Which slices the detectors look at."""

    focused: bool = True
    """Whether to look only at the slices that matter first, and at all slices only when that leaves a doubt."""
    midline_mm: Positive = 16.0
    """First look: sagittal T2 slices within this distance of the middle of their series."""
    foramen_mm: NonNegative = 4.0
    """Second look: T1 slices within this distance of an expected foramen, and one slice more."""
    level_mm: NonNegative = 2.0
    """Second look: axial slices within this distance of a level, and one slice more."""
    min_score: Fraction = 0.5
    """A level of the chain with a lower score than this is a doubt."""


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
        """Returns the section of one view."""
        section: ViewConfig = getattr(self, view.slug)
        return section
