"""Dropout that depends on nothing but the batch: not on what else draws random numbers, nor on who computes it."""

import torch
from torch import Tensor, nn


class DealtDropout(nn.Dropout):
    """Dropout of a part of a batch, as it is drawn for the whole batch."""

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self._seed, self._batch, self._place = 0, 0, torch.empty(0, dtype=torch.long)

    def deal(self, *, seed: int, batch: int, place: Tensor) -> None:
        """Says what comes next: places [b] of a batch, which is drawn from a seed."""
        self._seed, self._batch, self._place = seed, batch, place

    def forward(self, x: Tensor) -> Tensor:
        """Drops of features [b, features] what is drawn for their places in the batch."""
        return self._dropped(x) if self.training and self.p > 0 else x

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # it would be translated once for every batch
    def _dropped(self, x: Tensor) -> Tensor:
        generator = torch.Generator(device=x.device).manual_seed(self._seed)
        whole = torch.rand(self._batch, x.shape[1], generator=generator, device=x.device) >= self.p
        return x * (whole[self._place].to(x.dtype) / (1 - self.p))
