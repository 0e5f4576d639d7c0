"""Continues an interrupted training of a detector exactly: the weights are those of a training that ran through.

The library's own state cannot do that. It holds the moving average and the optimizer in half precision, and not the
weights themselves. The batches need no state: each epoch draws its own from the seed.
"""

import pickle
from pathlib import Path
from typing import Any

import torch

from shared.runtime.files import written_beside
from shared.runtime.progress import log

# What torch raises for files that are damaged or would run something.
_DAMAGED = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError,
)  # fmt: skip
# Changes whenever a state of an earlier version would be continued otherwise.
_VERSION = 2


def save_state(trainer: Any, path: Path) -> None:
    """Writes a trainer's state after an epoch, completely or not at all."""
    state = {
        "version": _VERSION,
        "epoch": trainer.epoch,
        "model": _plain(trainer.model).state_dict(),
        "average": trainer.ema.ema.state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None,
    }
    with written_beside(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any] | None:
    """A saved state; None without one, or where only a damaged one is left. Nothing in the file is run."""
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] == _VERSION and state["epoch"] >= 0:
            return dict(state)
    except _DAMAGED as error:
        log(f"warning: {path} cannot be read ({type(error).__name__}); training of this detector starts again")
    return None


def restore(trainer: Any, state: dict[str, Any]) -> None:
    """Puts a trainer that is set up, but has not begun, where the state was saved."""
    trainer.start_epoch = state["epoch"] + 1
    _plain(trainer.model).load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["average"])
    trainer.ema.updates = state["updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scheduler.last_epoch = trainer.start_epoch - 1
    _restore_losses(trainer)
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and trainer.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], trainer.device)


def averaged_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The moving average of the weights, in half precision, as detectors are stored."""
    return {
        name: torch.nan_to_num(tensor.half()) if tensor.is_floating_point() else tensor
        for name, tensor in state["average"].items()
    }


def begin_epoch(trainer: Any) -> None:
    """Makes the batches those of the epoch that begins."""
    trainer.train_loader.set_epoch(trainer.epoch)


def _plain(model: Any) -> Any:
    """The network itself, where several GPUs train it."""
    return getattr(model, "module", model)


def _restore_losses(trainer: Any) -> None:
    """Networks with two heads weigh their losses by the number of epochs."""
    model = _plain(trainer.model)
    if getattr(model.model[-1], "one2one_cv2", None) is not None:
        model.criterion = model.init_criterion()
        model.criterion.updates = trainer.start_epoch - 1
        model.criterion.update()
