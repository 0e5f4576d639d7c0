"""One network that several processes train together: each sends its part of a batch through a copy of the network.

Gradients are added up by torch's DistributedDataParallel. Batch statistics are those of the whole batch, and dropout is
drawn for the whole batch, so that the copies learn what one process would learn alone, except for rounding.
"""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from classify.network.model import SeverityNet
from classify.train.plan import Pass
from classify.train.processes import Processes, store

Shared = DistributedDataParallel


def shared_by(team: Processes, model: SeverityNet, device: torch.device) -> Shared:
    """What each process of a team calls in place of its copy of a network; `model` keeps its tensors.

    GPUs use NCCL and torch's own SyncBatchNorm. That has no CPU kernels, so CPUs use gloo and `SyncedBatchNorm`.
    """
    join(team, device)
    gpu = device.type == "cuda"
    if gpu:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    else:
        _sync_batch_norm(model)
    with warnings.catch_warnings():  # the argument's new name is unknown to earlier versions of torch
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return Shared(
            model, device_ids=[device.index] if gpu else None, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def join(team: Processes, device: torch.device) -> None:
    """Connects the processes of a team, unless they are."""
    if dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store(), rank=team.rank, world_size=team.world)


def leave() -> None:
    """Takes the connection down, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def added_up(tensor: Tensor, team: Processes) -> Tensor:
    """The sum of all processes' tensors, in place."""
    if team.world > 1:
        dist.all_reduce(tensor)
    return tensor


def sharing(network: Shared | None, one: Pass) -> AbstractContextManager[None]:
    """A block in which a network that is shared learns from one pass.

    Gradients of all but the last pass of a step wait to be averaged with those of the last.
    """
    waiting: AbstractContextManager[None] = nullcontext() if network is None or one.last else network.no_sync()
    return waiting


class SyncedBatchNorm(_BatchNorm):
    """Batch normalisation by the statistics of all processes' parts, on CPUs."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Takes any input that has channels."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # its sums cannot be translated
    def forward(self, x: Tensor) -> Tensor:
        """Normalises [b, channels, ...]."""
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.ndim) if d != 1]
        count = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x.float(), dims, correction=0)
        # Sums of squares cancel out, so these few numbers are double.
        own = torch.stack([mean.double(), variance.double() + mean.double() ** 2]) * count
        sums = _AddedUp.apply(torch.cat([own.flatten(), own.new_tensor([count])]))
        mean, square = sums[:-1].unflatten(0, (2, -1)) / sums[-1]  # [channels] each
        variance = square - mean**2
        with torch.no_grad():
            self._remember(mean.float(), (variance * (sums[-1] / (sums[-1] - 1))).float())
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = self.weight.double() / (variance + self.eps).sqrt()
        shift = self.bias.double() - mean * scale
        return (x.float() * scale.float().view(shape) + shift.float().view(shape)).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        for kept, new in ((self.running_mean, mean), (self.running_var, variance)):
            if kept is not None:
                kept.lerp_(new, self.momentum or 0.0)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _AddedUp(torch.autograd.Function):
    """The sum over all processes. The gradient of their common loss is the sum of their gradients."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sync_batch_norm(module: nn.Module) -> None:
    """Replaces the batch normalisations within a module; they keep their tensors."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            synced = SyncedBatchNorm(child.num_features, eps=child.eps, momentum=child.momentum)
            synced._parameters, synced._buffers = child._parameters, child._buffers
            setattr(module, name, synced.train(child.training))
        else:
            _sync_batch_norm(child)
