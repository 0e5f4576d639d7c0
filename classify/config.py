"""Config of stage 2. The defaults describe the full run; `configs/classify/demo.toml` overrides them for the demo."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from shared.jitter import Jitter
from shared.labels import Condition, View
from shared.runtime.config import Config

# Far beyond any use, and far from where arithmetic overflows.
_MOST: Final = 1e6
Positive = Annotated[float, Field(gt=0, le=_MOST)]
NonNegative = Annotated[float, Field(ge=0, le=_MOST)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

# Networks of torchvision that experiments may take as the trunk. Only resnet50 is measured and documented.
Backbone = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "densenet121", "efficientnet_b0",
    "efficientnet_v2_s", "convnext_tiny", "convnext_small", "regnet_y_3_2gf", "mobilenet_v3_large", "swin_t",
]  # fmt: skip

# The other view in which a condition is visible.
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
    """Side of the square crop in pixels."""
    mm_per_px: PerFamily = PerFamily(canal=0.45, foraminal=0.35, subarticular=0.45)
    """Resolution of the crop. The field of view in mm is size_px times this."""
    slices: Annotated[int, Field(ge=1, le=15)] = 5
    """Number of neighbouring slices, one per channel. Odd, with the localized slice in the middle."""
    margin_px: Annotated[int, Field(ge=0, le=256)] = 24
    """Border cached around the crop, so that jitter, rotation and scale need no second decoding."""
    margin_slices: Annotated[int, Field(ge=0, le=8)] = 2
    """Slices cached beyond either end of the crop, for jitter across slices."""
    mirror_right: bool = True
    """Mirrors right sides to look like left ones, so that one head learns from both."""
    second_view: bool = False
    """Adds as many channels from a second view at the same point of the patient: axial T2 for the canal, sagittal T2
    for foramina and subarticular zones."""

    @model_validator(mode="after")
    def _odd_slices(self) -> "CropConfig":
        if self.slices % 2 == 0:
            raise ValueError(
                f"crop.slices = {self.slices}: expected an odd number, with the localized slice in the middle"
            )
        return self

    @property
    def cached_px(self) -> int:
        return self.size_px + 2 * self.margin_px

    @property
    def cached_slices(self) -> int:
        return self.slices + 2 * self.margin_slices

    @property
    def channels(self) -> int:
        """Channels of the network's input: the slices of the finding's own view, then those of the second view."""
        return self.channel_groups * self.slices

    @property
    def cached_channels(self) -> int:
        return self.channel_groups * self.cached_slices

    @property
    def channel_groups(self) -> int:
        """Groups of channels that are standardised separately, one for each view."""
        return 2 if self.second_view else 1

    def second_view_of(self, condition: Condition) -> View | None:
        return SECOND_VIEW[condition] if self.second_view else None

    def sees_axial(self, condition: Condition) -> bool:
        return View.AXIAL_T2 in (condition.view, self.second_view_of(condition))


class ModelConfig(Config):
    """The network."""

    backbone: Backbone = "resnet50"
    """The trunk, by torchvision's name. Others than resnet50 are for experiments."""
    weights: str = "none"
    """Starting weights of the trunk: "none", "imagenet" (torchvision downloads them) or the path of a state dict of
    that backbone."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout before the heads."""
    slices_as: Literal["channels", "attention"] = "channels"
    """How the trunk sees neighbouring slices. "channels": together, as channels of one image. "attention": one by one,
    with features averaged by learned weights per family. This costs one pass per slice."""


class TrainConfig(Config):
    """Optimisation."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    epochs: Annotated[int, Field(ge=1, le=2000)] = 15
    batch: Annotated[int, Field(ge=2, le=8192)] = 64
    """Crops that pass through the network at once. Processes that share batches (`--spread data`) divide them."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches whose gradients are added up for one step of the optimizer. N batches learn like one that is N times as
    large, except that batch normalisation sees, and dropout is drawn for, one batch at a time. A CPU computes up to
    four of them side by side."""
    learning_rate: Positive = 4e-4
    """Peak learning rate."""
    weight_decay: NonNegative = 0.05
    warmup_epochs: NonNegative = 0.5
    """Epochs of linear warm-up to the peak. A cosine then decays to zero."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay per step of the exponential moving average of the weights, which is scored and kept. 0 keeps the raw
    weights."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gradient_clip: NonNegative = 5.0
    """Largest gradient norm. 0 turns clipping off."""
    balance: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How far the loss balances the families: 0 counts every row alike, 1 gives each family the same total weight, as
    the metric does."""
    canal_emphasis: Positive = 1.5
    """Factor on the loss of the canal family, whose rows the metric counts again in its any-severe term."""
    any_severe: NonNegative = 0.0
    """Weight of the metric's any-severe term in the loss: the largest canal probability of Severe in a study, against
    whether any graded canal level is severe. 1 counts the term like one family; set canal_emphasis to 1 then. Above 0,
    a batch holds all canal crops of its studies."""
    keep: Literal["last", "best"] = "last"
    """Weights to keep: those of the last epoch, or of the epoch with the lowest weighted loss on the held-out fold. The
    latter makes that fold's own score optimistic."""
    patience: Count = 0
    """Stops after this many epochs without a lower weighted loss on the held-out fold. 0 never stops early. Requires
    keep = "best"."""
    amp: Literal["auto", "bf16", "none"] = "auto"
    """Mixed precision. "auto" uses bf16 autocast on devices with native bf16 arithmetic."""
    compile: Literal["off", "auto", "on"] = "off"
    """Whether `torch.compile` translates the network for training. "auto" does so on CUDA devices and goes on without
    it where there is no compiler. The last digits of results change with it."""

    @model_validator(mode="after")
    def _patience_keeps_the_best(self) -> "TrainConfig":
        if self.patience and self.keep != "best":
            raise ValueError(f'train.patience = {self.patience}: early stopping requires train.keep = "best"')
        return self


class AugmentConfig(Config):
    """Random changes of training crops. None of them flips a side: only the cropper does, and always in one way."""

    rotation_deg: NonNegative = 8.0
    """Standard deviation of the rotation."""
    scale: NonNegative = 0.08
    """Standard deviation of the log magnification."""
    brightness: NonNegative = 0.15
    """Standard deviation of the offset, as a fraction of the full range. Pixels saturate at its ends."""
    contrast: NonNegative = 0.2
    """Standard deviation of the log factor."""
    gamma: NonNegative = 0.2
    """Standard deviation of the log exponent."""
    noise: NonNegative = 0.03
    """Largest standard deviation of added noise, as a fraction of the full range."""
    blur: Share = 0.2
    """Share of crops that are blurred."""
    mirror_canal: bool = True
    """Shows half of the canal crops as in a mirrored patient, with the same grade: slices are reversed and an axial
    second view is flipped."""


class JitterConfig(Config):
    """Assumed error of localizations. Training crops are moved by it where no measured error is given."""

    in_plane_sd_mm: PerFamily = PerFamily(canal=2.0, foraminal=2.0, subarticular=2.0)
    slice_shift: Share = 0.3
    """Probability of being one slice off, in either direction."""
    detected_share: Share = 0.3
    """Share of the jitter applied to crops at detected points, which carry an error of their own."""
    at_least: bool = False
    """Raises a measured error that is smaller than the assumed one, and `detected_share` with it. Use it when the
    classifier will grade scans of other scanners, where localization errors are larger (docs/adr/0012)."""

    def jitter(self, condition: Condition) -> Jitter:
        half = self.slice_shift / 2
        return Jitter(
            in_plane_sd_mm=self.in_plane_sd_mm.of(condition), slice_offsets={-1: half, 0: 1 - self.slice_shift, 1: half}
        )

    def of_annotated(self, condition: Condition, measured: Jitter | None) -> Jitter:
        """Jitter of crops at annotated points."""
        assumed = self.jitter(condition)
        if measured is None:
            return assumed
        return measured.at_least(assumed) if self.at_least else measured

    def share_of_detected(self, condition: Condition, measured: Jitter | None) -> float:
        """Share of that jitter for crops at detected points, on top of their own error."""
        if measured is None or not self.at_least:
            return self.detected_share
        whole = self.of_annotated(condition, measured).in_plane_sd_mm
        # Variances add up.
        return max(self.detected_share, (1 - (measured.in_plane_sd_mm / whole) ** 2) ** 0.5)


class ClassifyConfig(Config):
    """Everything that changes the results of stage 2."""

    crop: CropConfig = CropConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    jitter: JitterConfig = JitterConfig()


class DistillConfig(Config):
    """How the fast grader learns from the folds of a run (docs/adr/0035). All else is as the run was trained."""

    length: Annotated[float, Field(gt=0, le=100)] = 0.75
    """Number of epochs, as a multiple of the run's train.epochs."""
    rate: Positive = 0.5
    """Peak learning rate, as a multiple of the run's train.learning_rate."""
    start: Literal["best", "none"] = "best"
    """Starting weights: those of the fold with the lowest held-out loss, or the run's own starting weights."""
    label_share: Share = 0.1
    """Share of the grade itself in what a crop teaches; the rest is what the folds say of the crop."""
    teachers: Count = 2
    """Number of folds, drawn for each step, whose mean answer a batch is taught. 0 asks all folds, which takes longer
    and teaches the same in expectation."""
