"""The network, a trunk (ResNet50) with one linear head per condition family, and the metric's loss."""

import functools
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from classify.config import Backbone, ModelConfig
from classify.network.trunk import load_trunk, make_trunk
from shared.labels import FINDINGS, SEVERITY_WEIGHTS, Condition, Level, Severity

FAMILIES: Final = tuple(Condition)
CANAL: Final = FAMILIES.index(Condition.CANAL)


class SeverityNet(nn.Module):
    """Maps crops to severity logits.

    Each family has a linear head over the trunk's features and a bias per level. The bias starts at the log of the
    training prior, so an untrained network already predicts the weighted prior and learns what the image adds to it.
    With `attention` the trunk sees one slice at a time, and `SliceAttention` pools the features.
    """

    def __init__(
        self, *, slices: int, dropout: float, attention: bool = False, backbone: Backbone = "resnet50"
    ) -> None:  # fmt: skip
        super().__init__()
        self.trunk, features = make_trunk(backbone, 1 if attention else slices)
        self.attention = SliceAttention(slices, features) if attention else None
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({c.short: nn.Linear(features, 3, bias=False) for c in FAMILIES})
        for weight in self.heads.parameters():
            nn.init.normal_(weight, std=0.005)
        self.level_bias = nn.Parameter(torch.zeros(len(FAMILIES), len(Level), 3))

    def forward(self, x: Tensor, family: Tensor, level: Tensor) -> Tensor:
        """Computes logits.

        Args:
          x: [b, channels, size, size] standardised crops.
          family: [b] indices into `FAMILIES`.
          level: [b] indices into `Level`.

        Returns:
          [b, 3] logits.
        """
        if self.attention is None:
            features = self.trunk(x)
        else:
            each = self.trunk(x.flatten(0, 1)[:, None]).reshape(x.shape[0], x.shape[1], -1)  # [b, slices, features]
            features = self.attention(each, family)
        features = self.dropout(features)
        every = torch.stack([self.heads[c.short](features) for c in FAMILIES], dim=1)  # [b, families, 3]
        logits = every[torch.arange(x.shape[0], device=x.device), family].float()
        return logits + self.level_bias[family, level]


class SliceAttention(nn.Module):
    """Weighted mean of slice features, with weights learned per family (Ilse et al., ICML 2018, without the gate).

    A bias per family and slice position allows a preference for the localized slice. All weights start equal.
    """

    def __init__(self, slices: int, features: int, hidden: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.scores = nn.Linear(hidden, len(FAMILIES), bias=False)
        nn.init.zeros_(self.scores.weight)
        self.position_bias = nn.Parameter(torch.zeros(len(FAMILIES), slices))

    def forward(self, features: Tensor, family: Tensor) -> Tensor:
        """Pools features [b, slices, features] of the given families [b] to [b, features]."""
        every = self.scores(torch.tanh(self.hidden(features))).transpose(1, 2).float()  # [b, families, slices]
        own = every[torch.arange(features.shape[0], device=features.device), family] + self.position_bias[family]
        return (torch.softmax(own, dim=1)[:, :, None] * features).sum(1)


def for_prediction(model: SeverityNet, *, bf16: bool = False) -> SeverityNet:
    """A network that only predicts, faster: each normalisation is folded into the convolution before it.

    Args:
      bf16: whether it will be autocast to bf16. Its kernels are then kept so, instead of being rounded at every call.
    """
    from torch.fx.experimental.optimization import fuse

    model = model.eval().requires_grad_(False)
    model.trunk = fuse(model.trunk)
    return (with_bf16_kernels(model) if bf16 else model).to(memory_format=torch.channels_last)


def with_bf16_kernels(model: SeverityNet) -> SeverityNet:
    """The network, whose trunk keeps its kernels in bf16 from now on; it must be autocast."""
    for module in model.trunk.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(torch.bfloat16)
    return model


def empty_model(config: ModelConfig, *, slices: int) -> SeverityNet:
    """A network of the configured shape, before its weights are loaded."""
    return SeverityNet(
        slices=slices, dropout=config.dropout, attention=config.slices_as == "attention", backbone=config.backbone
    )


class _Unfilled(TorchFunctionMode):
    """Leaves out random numbers, for networks whose every tensor is about to come from a file."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def unfilled_model(config: ModelConfig, *, slices: int) -> SeverityNet:
    """The same network with arbitrary weights, in a tenth of the time."""
    with _Unfilled():
        return empty_model(config, slices=slices)


def build_model(config: ModelConfig, *, slices: int, prior: NDArray[np.float64]) -> SeverityNet:
    """A network that is ready to train.

    Args:
      prior: [25, 3] weighted prior of the training studies.

    Raises:
      InputError: when the starting weights cannot be loaded.
    """
    model = empty_model(config, slices=slices)
    if config.weights != "none":
        load_trunk(model.trunk, config.weights, config.backbone)
    bias = torch.zeros_like(model.level_bias)
    for c, condition in enumerate(FAMILIES):
        for level in Level:
            rows = [f.index for f in FINDINGS if f.condition is condition and f.level is level]
            bias[c, level] = torch.from_numpy(np.log(prior[rows].mean(0)))
    with torch.no_grad():
        model.level_bias.copy_(bias)
    return model


def check_starting_weights(config: ModelConfig) -> None:
    """Raises `InputError` unless training can start from the configured weights; downloads them if it must."""
    if config.weights != "none":
        load_trunk(empty_model(config, slices=3).trunk, config.weights, config.backbone)


def row_weights(
    label: NDArray[np.int8], family: NDArray[np.intp], *, balance: float, canal_emphasis: float
) -> NDArray[np.float32]:
    """Weights of training rows in the loss, with mean 1.

    Rows weigh 1, 2 or 4 by grade, as in the metric. With `balance` 1 every family has the same total weight, because
    the metric averages over families. `canal_emphasis` multiplies the canal's total, because the any-severe term counts
    its rows again.

    Args:
      label: [n] grades, -1 where not graded.
      family: [n] indices into `FAMILIES`.

    Returns:
      [n] weights, 0 where not graded.
    """
    weight = np.where(label >= 0, np.asarray(SEVERITY_WEIGHTS)[label.clip(min=0)], 0.0)
    for c, condition in enumerate(FAMILIES):
        total = weight[family == c].sum()
        if total > 0:
            weight[family == c] *= total**-balance * (canal_emphasis if condition is Condition.CANAL else 1.0)
    return (weight / weight.mean()).astype(np.float32) if weight.any() else weight.astype(np.float32)


def weighted_loss(logits: Tensor, label: Tensor, weight: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the batch of weight times cross-entropy, a scalar; rows without a grade (-1) contribute zero.

    Args:
      logits: [b, 3].
      label: [b] grades.
      weight: [b].
    """
    graded = label >= 0
    loss = functional.cross_entropy(logits, label.clamp_min(0), reduction="none", label_smoothing=label_smoothing)
    return torch.where(graded, loss * weight, 0.0).mean()


def any_severe_loss(logits: Tensor, label: Tensor, study: Tensor, studies: int) -> tuple[Tensor, Tensor]:
    """The metric's any-severe term per study, from all graded canal rows of some studies.

    The prediction is the study's largest probability of Severe, the label is whether any row is severe, and the weight
    is the largest row weight.

    Args:
      logits: [n, 3].
      label: [n] grades.
      study: [n] which study each row belongs to, from 0 to `studies` - 1. Each has a row.

    Returns:
      [studies] weighted losses and [studies] weights.
    """
    log_p = torch.log_softmax(logits, dim=1)
    severe, other = log_p[:, Severity.SEVERE], log_p[:, : Severity.SEVERE].logsumexp(1)
    mine = torch.arange(studies, device=study.device)[:, None] == study[None]  # [studies, n]
    # log p and log(1 - p) of the row with the largest p; a row of another study never wins.
    log_any = severe.expand_as(mine).masked_fill(~mine, -torch.inf).amax(1)
    log_none = other.expand_as(mine).masked_fill(~mine, torch.inf).amin(1)
    row_weight = _severity_weights(label.device)[label]
    weight = row_weight.expand_as(mine).masked_fill(~mine, 0.0).amax(1)
    happened = (mine & (label == Severity.SEVERE)).any(1)
    return weight * -torch.where(happened, log_any, log_none), weight


@functools.cache
def _severity_weights(device: torch.device) -> Tensor:
    return torch.tensor(SEVERITY_WEIGHTS, device=device)
