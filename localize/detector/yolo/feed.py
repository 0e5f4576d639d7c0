"""Batches for the library's trainer: images held as bytes, augmented on the device, prepared ahead by a thread."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from localize.detector.augment import Augmenter, Boxes
from localize.detector.export import LabelledImages

_AHEAD: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The part of each batch that one process takes, where several GPUs train one detector."""

    rank: int = 0
    of: int = 1


class Feed:
    """Stands in for the library's data loader.

    What a batch holds depends on the seed, the epoch and its position alone. So nothing that was prepared ahead can
    change a training, and one that continues after an epoch needs no state of random generators.
    """

    # What the library asks of its own loaders.
    num_workers: Final = 0
    drop_last: Final = False

    def __init__(
        self, images: LabelledImages, batch: int, device: torch.device, *, augmenter: Augmenter | None = None,
        seed: int = 0, share: Share = Share(),
    ) -> None:  # fmt: skip
        """Prepares `batch` images at a time: shuffled and augmented with an augmenter, else as they are."""
        self.batch_size, self.epoch = batch, 0
        self._images, self._device, self._augmenter, self._seed, self._share = images, device, augmenter, seed, share

    @property
    def dataset(self) -> range:
        return range(len(self._images.pixels))

    @property
    def sampler(self) -> "Feed":
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.dataset) // (self.batch_size * self._share.of))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the batches of the current epoch."""
        order = self._order()
        starts = range(0, len(order), self.batch_size)
        ahead: deque[Future[dict[str, Any]]] = deque()
        with ThreadPoolExecutor(1) as thread:
            for k, start in enumerate(starts):
                rows = order[start : start + self.batch_size]
                rng = np.random.default_rng([self._seed, self.epoch, k, self._share.rank])
                ahead.append(thread.submit(self.batch, rows, rng))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _order(self) -> NDArray[np.intp]:
        """The images that this process takes in this epoch; each process takes equally many."""
        images, share = np.arange(len(self.dataset)), self._share
        if self._augmenter is not None:
            np.random.default_rng([self._seed, self.epoch]).shuffle(images)
        return np.resize(images, -(-len(images) // share.of) * share.of)[share.rank :: share.of]

    def batch(self, rows: Sequence[int] | NDArray[np.intp], rng: np.random.Generator | None = None) -> dict[str, Any]:
        """The given images as the library's networks take them; augmented where an augmenter and a generator are."""
        data = self._images
        boxes = Boxes(
            xyxy=np.concatenate([data.boxes_xyxy[i] for i in rows]),
            image=np.repeat(np.arange(len(rows)), [len(data.levels[i]) for i in rows]),
        )
        levels = np.concatenate([data.levels[i] for i in rows])
        pixels = torch.from_numpy(data.pixels[np.asarray(rows)]).to(self._device)
        if self._augmenter is None or rng is None:
            values = pixels.float() / 255
        else:
            values, boxes, keep = self._augmenter(pixels, boxes, rng)
            levels = levels[keep]
        sides = np.tile(np.array(pixels.shape[:0:-1], np.float64), 2)
        # Half a pixel: its centres are whole numbers here and halves in YOLO.
        left_top, right_bottom = boxes.xyxy[:, :2] + 0.5, boxes.xyxy[:, 2:] + 0.5
        xywh = np.concatenate([(left_top + right_bottom) / 2, right_bottom - left_top], axis=1) / sides
        return {
            "img": values[:, None],
            "cls": self._sent(levels[:, None]),
            "bboxes": self._sent(xywh),
            "batch_idx": self._sent(boxes.image),
        }

    def _sent(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._device)
