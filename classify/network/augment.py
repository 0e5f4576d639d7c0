"""Cuts training crops from cached patches with random jitter, rotation, scale and intensity.

Changes are drawn per crop and applied per batch. The draws of many batches can travel to the device at once, so that a
training step waits for no transfer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from classify.config import AugmentConfig, CropConfig
from shared.jitter import Jitter
from shared.labels import FINDINGS, Condition, Side

# Distance between slices in common lumbar protocols, sagittal and axial.
_SLICE_MM: Final = 4.0
# The axes of the first view that become x, y and slices of the second one (see `classify.crops`).
_SECOND_AXES: Final = {Condition.CANAL: [2, 0, 1], Condition.SUBARTICULAR: [1, 2, 0]}
# By finding: its condition's index, and whether its channels run against the series where right sides are mirrored.
_CONDITIONS: Final = tuple(Condition)
_CONDITION_OF: Final = np.array([_CONDITIONS.index(f.condition) for f in FINDINGS])
_RUNS_AGAINST: Final = np.array([f.condition is Condition.FORAMINAL and f.side is Side.RIGHT for f in FINDINGS])
# No random change.
UNCHANGED: Final = AugmentConfig(
    rotation_deg=0, scale=0, brightness=0, contrast=0, gamma=0, noise=0, blur=0, mirror_canal=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Random numbers of one batch of b crops.

    Attributes:
      shift_px: [b, 2] shift (x, y) of the crop's centre in the patch.
      slice_offset: [b] number of slices by which the crop moves.
      second_shift_px: [b, 2] shift in a second view.
      second_offset: [b] offset in slices in a second view.
      rotation_rad: [b] rotation of the field of view.
      scale: [b] scale of the field of view.
      brightness, contrast, gamma, noise: [b] see `AugmentConfig`.
      blur: [b] whether to blur.
      mirror: [b] whether to show the mirrored patient.
      noise_seed: seed of the noise image.
      place: [b] which crops of the noise image these are; None for all of them, in order.
      drawn: number of crops in the noise image; 0 for as many as there are here.
    """

    shift_px: NDArray[np.float32]
    slice_offset: NDArray[np.int64]
    second_shift_px: NDArray[np.float32]
    second_offset: NDArray[np.int64]
    rotation_rad: NDArray[np.float32]
    scale: NDArray[np.float32]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    gamma: NDArray[np.float32]
    noise: NDArray[np.float32]
    blur: NDArray[np.bool_]
    mirror: NDArray[np.bool_]
    noise_seed: int
    place: NDArray[np.int64] | None = None
    drawn: int = 0

    def part(self, index: NDArray[np.intp]) -> "Draw":
        """The draw of some of its crops, each with the numbers that it has in the whole."""
        own: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        own = {name: value[index] for name, value in own.items() if isinstance(value, np.ndarray)}
        return replace(self, **own | {"place": index.astype(np.int64), "drawn": len(self.scale)})

    @classmethod
    def unchanged(
        cls,
        count: int,
        *,
        shift_px: NDArray[np.float32],
        rotation_rad: NDArray[np.float32],
        scale: NDArray[np.float32],
        mirror: NDArray[np.bool_],
    ) -> "Draw":
        """The given geometry, with intensity and slices unchanged."""
        zero, one, no = np.zeros(count, np.float32), np.ones(count, np.float32), np.zeros(count, bool)
        return cls(
            shift_px=shift_px, slice_offset=np.zeros(count, np.int64), second_shift_px=shift_px,
            second_offset=np.zeros(count, np.int64), rotation_rad=rotation_rad, scale=scale,
            brightness=zero, contrast=one, gamma=one, noise=zero, blur=no, mirror=mirror, noise_seed=0,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedDraw:
    """A `Draw` on the device that applies it.

    Attributes:
      theta, second_theta: [b, 2, 3] affine maps from the crop to the patch, each spanning -1 to 1, of both views.
      channels, second_channels: [b, slices] channels of the patch that the crop shows.
      brightness, contrast, gamma, noise, mirror: [b, 1, 1, 1] as in `Draw`.
      blurred: [k] crops to blur.
      noise_seed: as in `Draw`; None without noise.
      place: [b] which crops of the noise image these are; None for all of them, in order.
      drawn: number of crops in the noise image.
    """

    theta: Tensor
    second_theta: Tensor
    channels: Tensor
    second_channels: Tensor
    brightness: Tensor
    contrast: Tensor
    gamma: Tensor
    noise: Tensor
    mirror: Tensor
    blurred: Tensor
    noise_seed: int | None
    place: Tensor | None
    drawn: int


def on_device(arrays: Sequence[NDArray[np.generic]], device: torch.device) -> Sequence[Tensor]:
    """Arrays as tensors on a device, moved there together: one transfer that nothing waits for."""
    whole = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        whole = whole.pin_memory()
    moved: Sequence[Tensor] = torch.split(whole.to(device, non_blocking=True), [len(a) for a in arrays])
    return moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmenter:
    """Draws and applies the random changes of training crops.

    Attributes:
      jitter: localization error per condition.
      detected_share: share of it for crops at detected points, per condition.
    """

    crop: CropConfig
    augment: AugmentConfig
    jitter: Mapping[Condition, Jitter]
    detected_share: Mapping[Condition, float]

    @classmethod
    def still(cls, crop: CropConfig) -> "Augmenter":
        """An augmenter without random changes, used to apply chosen ones."""
        return cls(crop=crop, augment=UNCHANGED, jitter={}, detected_share={})

    def only_jitter(self) -> "Augmenter":
        """The same augmenter with localization error as its only change."""
        return replace(self, augment=UNCHANGED)

    def draw(self, rng: np.random.Generator, finding: NDArray[np.intp], annotated: NDArray[np.bool_]) -> Draw:
        """Draws random numbers for crops.

        Args:
          finding: [b] indices into `FINDINGS`.
          annotated: [b] whether the crop lies at an annotated point.
        """
        b, a = len(finding), self.augment

        def normal(deviation: float) -> NDArray[np.float32]:
            return (deviation * rng.standard_normal(b)).astype(np.float32)

        shift_px, slice_offset = self._draw_jitter(rng, finding, annotated)
        second_shift_px, second_offset = self._in_second_view(finding, shift_px, slice_offset)
        canal = _CONDITION_OF[finding] == _CONDITIONS.index(Condition.CANAL)
        return Draw(
            shift_px=shift_px,
            slice_offset=slice_offset,
            second_shift_px=second_shift_px,
            second_offset=second_offset,
            rotation_rad=np.radians(normal(a.rotation_deg)),
            scale=np.exp(normal(a.scale)),
            brightness=normal(a.brightness),
            contrast=np.exp(normal(a.contrast)),
            gamma=np.exp(normal(a.gamma)),
            noise=(a.noise * rng.random(b)).astype(np.float32),
            blur=rng.random(b) < a.blur,
            mirror=(rng.random(b) < 0.5) & canal & a.mirror_canal,
            noise_seed=int(rng.integers(2**31)),
        )

    def _draw_jitter(
        self, rng: np.random.Generator, finding: NDArray[np.intp], annotated: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        shift_px, deviation = rng.standard_normal((len(finding), 2)), np.zeros(len(finding))
        uniform = rng.random(len(finding))
        offset = np.zeros(len(finding), np.int64)
        conditions = _CONDITION_OF[finding]
        share = np.array([self.detected_share.get(c, 0.0) for c in _CONDITIONS])[conditions]
        share = np.where(annotated, 1.0, share)
        for condition, jitter in self.jitter.items():
            of = conditions == _CONDITIONS.index(condition)
            deviation[of] = (jitter.in_plane_sd_mm / self.crop.mm_per_px.of(condition) * share)[of]
            values = np.array(sorted(jitter.slice_offsets))
            edges = np.cumsum([jitter.slice_offsets[int(v)] for v in values])
            picked = values[np.searchsorted(edges, uniform * edges[-1], side="right").clip(max=len(values) - 1)]
            offset[of] = picked[of]
        offset[rng.random(len(finding)) >= share] = 0
        # Offsets count along the series. The channels of these crops run against it (see `classify.crops`).
        offset[_RUNS_AGAINST[finding] & self.crop.mirror_right] *= -1
        offset = offset.clip(-self.crop.margin_slices, self.crop.margin_slices)
        shift_px *= deviation[:, None]
        return shift_px.clip(-self.crop.margin_px, self.crop.margin_px).astype(np.float32), offset

    def _in_second_view(
        self, finding: NDArray[np.intp], shift_px: NDArray[np.float32], offset: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same displacement in the patient, along the axes of the second view."""
        conditions = _CONDITION_OF[finding]
        mm_per_px = np.array([self.crop.mm_per_px.of(c) for c in _CONDITIONS])[conditions][:, None]
        moved = np.column_stack([shift_px, offset[:, None] * _SLICE_MM / mm_per_px])  # x, y, across slices, in px
        for condition, axes in _SECOND_AXES.items():
            of = conditions == _CONDITIONS.index(condition)
            moved[of] = moved[of][:, axes]
        across = np.rint(moved[:, 2:] * mm_per_px / _SLICE_MM).astype(np.int64)[:, 0]
        return (
            moved[:, :2].clip(-self.crop.margin_px, self.crop.margin_px).astype(np.float32),
            across.clip(-self.crop.margin_slices, self.crop.margin_slices),
        )

    def place(self, draws: Sequence[Draw], device: torch.device) -> list[PlacedDraw]:
        """The draws of some batches, on a device."""
        columns: dict[str, Sequence[NDArray[np.generic]]] = {
            "theta": [self._theta(d, d.shift_px) for d in draws],
            "second_theta": [self._theta(d, d.second_shift_px) for d in draws],
            "channels": [self._channels(d.slice_offset) for d in draws],
            "second_channels": [self._channels(d.second_offset) for d in draws],
            "blurred": [np.flatnonzero(d.blur) for d in draws],
        }
        for name in ("brightness", "contrast", "gamma", "noise", "mirror"):
            columns[name] = [getattr(d, name)[:, None, None, None] for d in draws]
        moved = {name: on_device(arrays, device) for name, arrays in columns.items()}
        if any(d.place is not None for d in draws):
            whole = [np.arange(len(d.scale)) if d.place is None else d.place for d in draws]
            moved["place"] = on_device(whole, device)
        own: list[dict[str, Any]] = [{name: tensors[i] for name, tensors in moved.items()} for i in range(len(draws))]
        return [
            PlacedDraw(
                noise_seed=d.noise_seed if d.noise.any() else None, drawn=d.drawn or len(d.scale),
                place=tensors.pop("place", None), **tensors,
            )
            for d, tensors in zip(draws, own, strict=True)
        ]  # fmt: skip

    def _theta(self, draw: Draw, shift_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Affine maps [b, 2, 3] from positions in the crop to positions in the patch, each spanning -1 to 1."""
        size, patch = self.crop.size_px, self.crop.cached_px
        cos, sin = np.cos(draw.rotation_rad) * draw.scale, np.sin(draw.rotation_rad) * draw.scale
        theta = np.empty((len(draw.scale), 2, 3), np.float32)
        theta[:, 0, 0], theta[:, 0, 1], theta[:, 1, 0], theta[:, 1, 1] = cos, -sin, sin, cos
        theta[:, :, :2] *= size / patch
        theta[:, :, 2] = 2 * shift_px / patch
        return theta

    def _channels(self, offset: NDArray[np.int64]) -> NDArray[np.int64]:
        """Channels [b, slices] of one view of the patch that show the crop, `offset` slices off the middle."""
        return np.arange(self.crop.slices)[None] + self.crop.margin_slices + offset[:, None]

    def apply(self, patches: Tensor, draw: Draw | PlacedDraw) -> Tensor:
        """Cuts the crops that were drawn.

        Only the canal is mirrored: across the slices of its sagittal view, and from side to side in its axial view.

        Args:
          patches: [b, cached channels, cached px, cached px] 8-bit.

        Returns:
          [b, channels, size, size], about 0 to 1, not yet standardised.
        """
        placed = self.place([draw], patches.device)[0] if isinstance(draw, Draw) else draw
        own = patches[:, : self.crop.cached_slices]
        x = self._cut(own, placed.theta, placed.channels)
        x = torch.where(placed.mirror, x.flip(1), x)
        if not self.crop.second_view:
            return _intensity(x, placed)
        other = patches[:, self.crop.cached_slices :]
        shown = torch.where(placed.mirror, other.flip(3), other)
        second = self._cut(shown, placed.second_theta, placed.second_channels)
        x = _intensity(torch.cat([x, second], dim=1), placed)
        # A view that the study does not have stays black, as in prediction; noise must not fill it.
        x[:, self.crop.slices :] *= other.flatten(1).any(1)[:, None, None, None]
        return x

    def _cut(self, patches: Tensor, theta: Tensor, channels: Tensor) -> Tensor:
        """Crops [b, slices, size, size] of one view: some of its slices, shifted, rotated and scaled in plane."""
        x = patches[torch.arange(len(patches), device=patches.device)[:, None], channels].float().div_(255)
        size = self.crop.size_px
        grid = functional.affine_grid(theta, [len(theta), 1, size, size], align_corners=False)
        return functional.grid_sample(x, grid, mode="bilinear", align_corners=False)


def _intensity(x: Tensor, draw: PlacedDraw) -> Tensor:
    """Changes crops' brightness, contrast and gamma, blurs some, and adds noise. Overwrites `x`."""
    x = x.clamp_(0, 1).pow_(draw.gamma)
    # Clipped as by another 8-bit window; without clipping, `standardise` would undo brightness and contrast.
    x = x.sub_(0.5).mul_(draw.contrast).add_(0.5).add_(draw.brightness).clamp_(0, 1)
    if len(draw.blurred):
        padded = functional.pad(x[draw.blurred], (1, 1, 1, 1), mode="replicate")
        x.index_copy_(0, draw.blurred, functional.avg_pool2d(padded, 3, stride=1))
    if draw.noise_seed is None:
        return x
    generator = torch.Generator(device=x.device).manual_seed(draw.noise_seed)
    noise = torch.randn((draw.drawn, *x.shape[1:]), generator=generator, device=x.device)
    return x.add_((noise if draw.place is None else noise[draw.place]).mul_(draw.noise))


def center(patches: Tensor, crop: CropConfig) -> Tensor:
    """Crops [b, channels, size, size] in 0 to 1 at the centre of 8-bit patches, as prediction sees them."""
    s, p = crop.margin_slices, crop.margin_px
    patches = patches[:, :, p : p + crop.size_px, p : p + crop.size_px]
    each = [patches[:, v * crop.cached_slices :][:, s : s + crop.slices] for v in range(crop.channel_groups)]
    return torch.cat(each, dim=1).float() / 255


def standardise(x: Tensor, groups: int = 1) -> Tensor:
    """Gives each crop zero mean and unit deviation, because brightness differs between scanners and coils.

    Args:
      x: [b, groups * slices, size, size].
      groups: of channels that are standardised separately (`CropConfig.channel_groups`).
    """
    each = x.reshape(len(x), groups, -1, *x.shape[2:])
    deviation, mean = torch.std_mean(each, dim=(2, 3, 4), keepdim=True, correction=0)
    return ((each - mean) / deviation.clamp_min(0.02)).flatten(1, 2)
