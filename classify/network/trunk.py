"""The trunk: an image network of torchvision without its last layer, with one input channel per slice."""

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from shared.runtime.errors import InputError

# What the names of the trunk's tensors begin with in a whole network.
_TRUNK: Final = "trunk."
# Each residual block starts as the identity (Goyal et al., 2017).
_ZERO_INIT: Final = ("resnet", "resnext")


def make_trunk(backbone: str, channels: int) -> tuple[nn.Module, int]:
    """An untrained trunk.

    Args:
      backbone: one of `classify.config.Backbone`.
      channels: of the input.

    Returns:
      The trunk, which maps [b, channels, size, size] to [b, features], and the number of features. Its tensors have
      torchvision's names.
    """
    options = {"zero_init_residual": True} if backbone.startswith(_ZERO_INIT) else {}
    trunk = get_model(backbone, weights=None, **options)
    head = _head(trunk)
    features = int(trunk.get_submodule(head).in_features)
    trunk.set_submodule(head, nn.Identity())
    for module in trunk.get_submodule(head.rpartition(".")[0]).children() if "." in head else ():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # `model.dropout` is the one before our heads
    _adapt_input(trunk, channels)
    return trunk, features


def load_trunk(trunk: nn.Module, weights: str, backbone: str = "resnet50") -> None:
    """Loads starting weights: "imagenet" downloads them, anything else is the path of a file.

    Args:
      trunk: of `make_trunk`.
      weights: a state dict of torchvision's network of that name, or model.safetensors of a fold of
        `lumbar classify train`.

    Raises:
      InputError: when the download fails or the file is neither.
    """
    try:
        if weights == "imagenet":
            state = get_model_weights(backbone).DEFAULT.get_state_dict(progress=False, check_hash=True)
        elif weights.endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(Path(weights))
        else:
            state = torch.load(Path(weights), map_location="cpu", weights_only=True)
        own = {k.removeprefix(_TRUNK): v for k, v in state.items() if k.startswith(_TRUNK)}
        head = _head_of(backbone)
        state = own or {k: v for k, v in state.items() if not k.startswith(f"{head}.")}
        kernel = f"{_stem(trunk)}.weight"
        state[kernel] = _spread(state[kernel], trunk.get_parameter(kernel).shape[1])
        trunk.load_state_dict(state, strict=True)
    except Exception as error:  # a foreign file or a failed download; the loaders share no base class of errors
        raise InputError(
            f"starting weights {weights!r} cannot be used ({type(error).__name__}: {str(error)[:160]}); "
            f"expected none, imagenet, or the path of a torchvision {backbone} state dict or of a fold's "
            "model.safetensors of that backbone"
        ) from error


def _head_of(backbone: str) -> str:
    with torch.device("meta"):  # takes no time, no memory and no random numbers
        return _head(get_model(backbone, weights=None))


def _head(network: nn.Module) -> str:
    """Name of the last linear layer."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]


def _stem(network: nn.Module) -> str:
    """Name of the first convolution."""
    return next(name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))


def _adapt_input(trunk: nn.Module, channels: int) -> None:
    """Gives the first convolution the wanted number of input channels."""
    name = _stem(trunk)
    old = trunk.get_submodule(name)
    if not isinstance(old, nn.Conv2d) or old.in_channels == channels:
        return
    conv = nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None)  # type: ignore[arg-type]  # torch's stubs want tuples of two
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    trunk.set_submodule(name, conv)


def _spread(kernel: Tensor, slices: int) -> Tensor:
    """Adapts RGB kernels to another number of channels: each gets the mean, scaled to keep the response."""
    if kernel.shape[1] == slices:
        return kernel
    return kernel.mean(1, keepdim=True).repeat(1, slices, 1, 1) * (kernel.shape[1] / slices)
