"""Config of stage 2. The defaults are the full run; `configs/classify/demo.toml` overrides them for the demo."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from shared.jitter import Jitter
from shared.labels import Condition, View
from shared.runtime.config import Config

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

# Where else a condition shows.
SECOND_VIEW: Final = {
    Condition.CANAL: View.AXIAL_T2,
    Condition.FORAMINAL: View.SAGITTAL_T2,
    Condition.SUBARTICULAR: View.SAGITTAL_T2,
}


class PerFamily(Config):
    """One positive number per condition family."""

    canal: Positive
    foraminal: Positive
    subarticular: Positive

    def of(self, condition: Condition) -> float:
        return float(getattr(self, condition.short))


class CropConfig(Config):
    """What the network sees of a finding."""

    size_px: Annotated[int, Field(ge=32, le=512)] = 128
    """Side of the square crop."""
    mm_per_px: PerFamily = PerFamily(canal=0.45, foraminal=0.35, subarticular=0.45)
    """Resolution of the crop; size_px times this is the field of view in mm."""
    slices: Annotated[int, Field(ge=1, le=15)] = 5
    """Neighbouring slices as channels, odd, the localized one in the middle."""
    margin_px: Count = 24
    """Border kept in the cache beyond the crop, so that jitter, rotation and scale need no second decoding."""
    margin_slices: Count = 2
    """Slices kept in the cache beyond the crop on either end, for jitter in slices."""
    mirror_right: bool = True
    """Shows right sides as the mirror image of left ones, so that one head learns both from twice the crops."""
    unmirror: bool = True
    """Crops of an axial series that is mirrored against the sagittal ones show what its picture shows, not what its
    header says; keep it as stage 1's axial.unmirror."""

    second_view: bool = False
    """Also shows each finding in a second view, in as many further channels: the canal in axial T2, foramina and
    subarticular zones in sagittal T2, at the same point of the patient."""

    @model_validator(mode="after")
    def _odd_slices(self) -> "CropConfig":
        if self.slices % 2 == 0:
            raise ValueError(f"crop.slices = {self.slices}: expected an odd number, the localized slice in the middle")
        return self

    @property
    def cached_px(self) -> int:
        return self.size_px + 2 * self.margin_px

    @property
    def cached_slices(self) -> int:
        return self.slices + 2 * self.margin_slices

    @property
    def channels(self) -> int:
        """What the network sees at once: the slices of one view, then those of the other."""
        return self.views * self.slices

    @property
    def cached_channels(self) -> int:
        return self.views * self.cached_slices

    @property
    def views(self) -> int:
        return 2 if self.second_view else 1

    def second_view_of(self, condition: Condition) -> View | None:
        return SECOND_VIEW[condition] if self.second_view else None

    def sees_axial(self, condition: Condition) -> bool:
        return View.AXIAL_T2 in (condition.view, self.second_view_of(condition))


class ModelConfig(Config):
    """The network."""

    pretrained: str = "none"
    """Start of the trunk: "none", "imagenet" (torchvision downloads it) or the path of a ResNet50 state dict."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Before the heads."""
    slices_as: Literal["channels", "attention"] = "channels"
    """How the trunk sees neighbouring slices: together, as channels of one image; or one by one, its features averaged
    with learned weights per family (costs as many passes as there are slices)."""


class TrainConfig(Config):
    """The optimisation."""

    seed: int = 0
    epochs: Annotated[int, Field(ge=1)] = 15
    batch: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 4e-4
    """Peak of the schedule."""
    weight_decay: NonNegative = 0.05
    warmup_epochs: NonNegative = 0.5
    """Linear rise to the peak; a cosine falls from there to zero."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Of the averaged weights that are scored and kept, per step; 0 keeps the raw weights."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gradient_clip: NonNegative = 5.0
    """Largest gradient norm; 0 does not clip."""
    balance: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How far families are balanced in the loss: 0 counts every row alike, 1 gives every family the same total weight,
    as the metric does."""
    canal_emphasis: Positive = 1.5
    """Factor on the canal family's loss, whose rows the metric counts again in its any-severe term."""
    any_severe: NonNegative = 0.0
    """Weight of the metric's any-severe term itself: the study's largest canal probability of Severe against whether
    any graded canal level is severe. 1 counts it like one family (set canal_emphasis to 1 then); above 0 a batch holds
    all canal crops of its studies."""
    keep: Literal["last", "best"] = "last"
    """Weights to keep: of the last epoch, or of the epoch with the lowest weighted loss on the held-out fold (then that
    fold's own score is optimistic)."""
    patience: Count = 0
    """Stops after this many epochs without a lower weighted loss on the held-out fold; 0 never does. Wants
    keep = "best"."""
    amp: Literal["auto", "bf16", "none"] = "auto"
    """bf16 autocast; "auto" uses it where the device has native bf16 arithmetic."""
    channels_last: bool = True

    @model_validator(mode="after")
    def _patience_keeps_the_best(self) -> "TrainConfig":
        if self.patience and self.keep != "best":
            raise ValueError(
                f'train.patience = {self.patience}: stopping early keeps the best epoch, set keep = "best"'
            )
        return self


class AugmentConfig(Config):
    """Random changes of training crops. No side is ever flipped here: that is the cropper's, and always the same."""

    rotation_deg: NonNegative = 8.0
    """Standard deviation."""
    scale: NonNegative = 0.08
    """Standard deviation of the log of the magnification."""
    brightness: NonNegative = 0.15
    """Standard deviation of the offset, in units of the full range, beyond which pixels saturate."""
    contrast: NonNegative = 0.2
    """Standard deviation of the log of the factor."""
    gamma: NonNegative = 0.2
    """Standard deviation of the log of the exponent."""
    noise: NonNegative = 0.03
    """Largest standard deviation of added noise, in units of the full range."""
    blur: Share = 0.2
    """Share of crops that are smoothed."""
    mirror_canal: bool = True
    """Shows half the canal crops as of the mirrored patient, with the same grade: slices reversed, an axial second
    view flipped."""


class JitterConfig(Config):
    """Assumed error of localizations, by which training crops are moved."""

    in_plane_sd_mm: PerFamily = PerFamily(canal=2.0, foraminal=2.0, subarticular=2.0)
    slice_shift: Share = 0.3
    """Chance of being one slice off, either way."""
    detected_share: Share = 0.3
    """Share of that jitter applied to crops at detected points, which carry their own error."""
    at_least: bool = False
    """Raises a smaller measured error to the assumed one, and `detected_share` so that detected points reach it, for
    graders that will meet other scanners, where localizers err more than at home (docs/adr/0012)."""

    def jitter(self, condition: Condition) -> Jitter:
        half = self.slice_shift / 2
        return Jitter(
            in_plane_sd_mm=self.in_plane_sd_mm.of(condition), slice_offsets={-1: half, 0: 1 - self.slice_shift, 1: half}
        )

    def of_annotated(self, condition: Condition, measured: Jitter | None) -> Jitter:
        """The jitter of crops at annotated points."""
        assumed = self.jitter(condition)
        if measured is None:
            return assumed
        return measured.at_least(assumed) if self.at_least else measured

    def share_of_detected(self, condition: Condition, measured: Jitter | None) -> float:
        """Which share of it crops at detected points get besides their own error."""
        if measured is None or not self.at_least:
            return self.detected_share
        whole = self.of_annotated(condition, measured).in_plane_sd_mm
        # Variances add up.
        return max(self.detected_share, (1 - (measured.in_plane_sd_mm / whole) ** 2) ** 0.5)


class CalibrationConfig(Config):
    """After training."""

    method: Literal["none", "temperature", "vector"] = "temperature"
    """What is fitted per condition family on the held-out fold for the metric's weighted log loss: nothing, a
    temperature, or a temperature and a bias per grade; kept where it helps held-out studies that it was not fitted
    on. Crops at annotated points are jittered for it, as in training."""


class ClassifyConfig(Config):
    """Everything that changes the results of stage 2."""

    crop: CropConfig = CropConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    jitter: JitterConfig = JitterConfig()
    calibration: CalibrationConfig = CalibrationConfig()
