"""The floor of a prediction: its pixels decoded, and its very inputs passed through both networks, and nothing else.

The inputs are recorded while studies are predicted. They are then passed through the same networks again, in batches of
several sizes, by one thread of torch, by all of them, and by Python threads side by side with one thread each. Of each
network the fastest way counts.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from classify.device import use_bf16
from classify.network.checkpoint import load_card
from classify.predict import Classifier
from localize.detector.yolo.inference import Detector
from pipelines.grader import Grader
from shared.data.source import StudySource
from shared.dicom import pixels as dicom_pixels
from shared.dicom.decoding import stored_pixels
from shared.dicom.decoding.rle import decode_rle
from shared.dicom.intensity import scale_by_table
from shared.runtime.hardware.cores import usable_cores

BATCHES: Final = (16, 32, 64)
ROUNDS: Final = 2

Network = Callable[..., Any]
# Number of threads that work side by side, and of torch's threads within each.
Way = tuple[int, int]


@dataclass(slots=True)
class Recording:
    """What a prediction passed through each network, one entry a call, and the slices that it decoded."""

    calls: dict[Network, list[tuple[torch.Tensor, ...]]] = field(default_factory=lambda: defaultdict(list))
    frames: list[tuple[bytes, tuple[int, int], int]] = field(default_factory=list)
    stored: list[np.ndarray] = field(default_factory=list)


@contextmanager
def recorded(grader: Grader, recording: Recording) -> Iterator[None]:
    """Within this block the networks of a grader of one run a stage, and the decoder of RLE, note their inputs."""
    localizer, classifier = grader.localizer, grader.classifier
    detectors: list[Detector] = list(localizer._detectors.values())  # type: ignore[attr-defined]
    if not isinstance(classifier, Classifier):
        raise TypeError("expected a classifier of one run")
    plain = [list(d._models) for d in detectors], classifier._members

    def noted(network: Network) -> Network:
        def call(*inputs: torch.Tensor) -> Any:
            recording.calls[network].append(inputs)
            return network(*inputs)

        return call

    def decode(frame: bytes | memoryview, shape: tuple[int, int], itemsize: int) -> Any:
        decoded = decode_rle(frame, shape, itemsize)
        recording.frames.append((bytes(frame), shape, itemsize))
        recording.stored.append(decoded)
        return decoded

    try:
        for detector in detectors:
            detector._models = [noted(model) for model in detector._models]
        classifier._members = tuple((card, noted(model)) for card, model in classifier._members)
        stored_pixels.decode_rle = decode  # type: ignore[attr-defined]
        yield
    finally:
        for detector, models in zip(detectors, plain[0], strict=True):
            detector._models = models
        classifier._members = plain[1]
        stored_pixels.decode_rle = decode_rle  # type: ignore[attr-defined]


def record(grader: Grader, source: StudySource, study_ids: Sequence[str]) -> Recording:
    """Predicts the studies, each slice decoded once, and writes down what the networks and the decoder were given."""
    recording = Recording()
    with recorded(grader, recording):
        for study_id in study_ids:
            with dicom_pixels.kept_pixels():
                grader.predict(source.load(study_id))
    return recording


def seconds_of_networks(recording: Recording, run: Path) -> dict[str, Any]:
    """Wall seconds of the pure forward passes of all recorded inputs, by the fastest way of each network.

    Args:
      run: of the classifier, whose config says whether it computes in bf16.
    """
    card = load_card(next(iter(sorted(run.glob("fold[0-9]*")))))
    bf16 = use_bf16(card.config.train.amp, torch.device("cpu"))
    found, total = [], 0.0
    for network, calls in recording.calls.items():
        is_grader = len(calls[0]) == 3
        timed = {
            (batch, way): _seconds(network, calls, batch, way, bf16=bf16 and is_grader)
            for batch in BATCHES
            for way in _ways()
        }
        (batch, way), best = min(timed.items(), key=lambda item: item[1])
        total += best
        found.append(
            {
                "network": "grader" if is_grader else "detector", "images": sum(len(c[0]) for c in calls),
                "seconds": best, "batch": batch, "side_by_side": way[0], "torch_threads": way[1],
                "seconds_as_called_one_thread": _as_called(network, calls, bf16=bf16 and is_grader),
            }
        )  # fmt: skip
    return {"seconds": total, "bf16": bf16, "networks": found}


def seconds_of_decoding(recording: Recording) -> dict[str, float]:
    """Seconds of one core to decode the recorded frames and to scale them to 8 bit."""
    decode = min(_timed(lambda: [decode_rle(*f) for f in recording.frames]) for _ in range(ROUNDS))
    scale = min(
        _timed(lambda: [scale_by_table(s, lambda v: v.astype(np.float32)) for s in recording.stored])
        for _ in range(ROUNDS)
    )
    return {"slices": len(recording.frames), "decode": decode, "scale": scale, "seconds": decode + scale}


def _ways() -> list[Way]:
    cores = usable_cores()
    return [(1, 1), (1, cores), (cores, 1)] if cores > 1 else [(1, 1)]


def _batches(calls: Sequence[tuple[torch.Tensor, ...]], batch: int) -> list[tuple[torch.Tensor, ...]]:
    """The recorded images of each shape, in batches of one size."""
    of_shape: dict[Any, list[tuple[torch.Tensor, ...]]] = defaultdict(list)
    for call in calls:
        of_shape[call[0].shape[1:]].append(call)
    result = []
    for group in of_shape.values():
        joined = [torch.cat(parts) for parts in zip(*group, strict=True)]
        if joined[0].shape[1] > 1:
            joined[0] = joined[0].contiguous(memory_format=torch.channels_last)
        result += list(zip(*(torch.split(part, batch) for part in joined), strict=True))
    return result


def _seconds(network: Network, calls: Sequence[tuple[torch.Tensor, ...]], batch: int, way: Way, *, bf16: bool) -> float:
    batches, (beside, threads) = _batches(calls, batch), way
    # A detector keeps what belongs to the shape of its last images, so threads need one each.
    shares = [(network if k == 0 else deepcopy(network), batches[k::beside]) for k in range(beside)]

    def work(own: Network, share: Sequence[tuple[torch.Tensor, ...]]) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for inputs in share:
                own(*inputs)

    def all_shares() -> None:
        runners = [threading.Thread(target=work, args=share) for share in shares[1:]]
        for runner in runners:
            runner.start()
        work(*shares[0])
        for runner in runners:
            runner.join()

    before = torch.get_num_threads()
    try:
        return min(_timed(all_shares) for _ in range(ROUNDS))
    finally:
        torch.set_num_threads(before)


def _as_called(network: Network, calls: Sequence[tuple[torch.Tensor, ...]], *, bf16: bool) -> float:
    """Seconds of one thread with the batches of the prediction itself."""

    def work() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for inputs in calls:
                network(*inputs)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(_timed(work) for _ in range(ROUNDS))
    finally:
        torch.set_num_threads(before)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
