"""Builds the detectors that Ultralytics ships, and fills them with the tensors of a file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from localize.config import FAMILIES
from localize.detector.checkpoint import Checkpoint
from localize.detector.weights_file import SUFFIX, StoredDetector
from localize.detector.yolo.library import ultralytics
from shared.labels import Level
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.runtime.weights import check_finite

_FOLDERS: Final = dict(zip(FAMILIES, ("v8", "11", "12", "26"), strict=True))
_SCORES: Final = re.compile(r"model\.\d+\.cv3\.0\.2\.weight")
_FIRST: Final = "model.0.conv.weight"
_MOST_CLASSES: Final = 1000
# Input channels of colour and of grey images.
_CHANNELS: Final = (1, 3)

Shapes = Mapping[str, tuple[int, ...]]


def architecture_yaml(name: str) -> dict[str, Any]:
    """The library's description of a network, from its own folder alone; `name` is one of `ARCHITECTURES`."""
    from ultralytics.utils import ROOT, YAML

    stem = name.removesuffix(".yaml")
    family, size = stem[:-1], stem[-1]
    path = ROOT / "cfg" / "models" / _FOLDERS[family] / f"{family}.yaml"
    return {**YAML.load(path), "scale": size, "yaml_file": name}  # type: ignore[no-untyped-call]


def build_network(architecture: str, shapes: Shapes) -> Any:
    """A network whose first and last layers have the shapes of the given tensors; its weights are random.

    Detectors that began from pretrained weights may keep the width of their score branches, which the library derives
    from the number of classes.
    """
    ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    last = next((shape for name, shape in shapes.items() if _SCORES.fullmatch(name)), ())
    classes, width = last[:2] if len(last) == 4 else (len(Level), 0)
    channels = dict(shapes).get(_FIRST, (0, 1))[1:2] or (1,)
    if classes > _MOST_CLASSES or width > _MOST_CLASSES or channels[0] not in _CHANNELS:
        raise InputError(f"has {counted(classes, 'class')}, {width} score channels and {channels[0]} input channels")

    def build(number: int) -> Any:
        return DetectionModel(architecture_yaml(architecture), ch=channels[0], nc=number, verbose=False)  # type: ignore[no-untyped-call]

    with torch.random.fork_rng(devices=[]):
        network = build(classes)
        if width > network.model[-1].cv3[0][-1].in_channels:
            network = build(max(classes, width))
            _set_classes(network, classes)
    return network


def _set_classes(network: Any, classes: int) -> None:
    """Gives the score branches another number of outputs and leaves their width."""
    head = network.model[-1]
    for branch in (head.cv3, getattr(head, "one2one_cv3", ())):
        for level in branch:
            level[-1] = nn.Conv2d(level[-1].in_channels, classes, 1)
    head.nc, head.no = classes, classes + 4 * head.reg_max
    network.yaml["nc"] = classes
    network.names = {i: str(i) for i in range(classes)}


def load_network(path: Path) -> Any:
    """The network of a detector's file, with its weights in single precision.

    Raises:
      InputError: as `StoredDetector`, or when the tensors are not exactly those of the architecture.
    """
    stored = StoredDetector.open(path)
    try:
        network = build_network(stored.architecture, stored.shapes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if network.model[-1].nc != len(Level):
        raise InputError(f"{path}: has {counted(network.model[-1].nc, 'class')}; expected {len(Level)} levels")
    network.load_state_dict(stored.load(network))
    network.names = {level.value: level.slug for level in Level}
    return network


class _Tensors(nn.Module):
    """Stands in for a network of which only some tensors fit ours."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._kept = dict(tensors)

    def state_dict(self, *_: Any, **__: Any) -> Any:
        return dict(self._kept)


def load_donor(path: Path, architecture: str) -> Any:
    """What a file offers to a network of the given architecture that starts from it, for the library's `load`.

    A checkpoint (.pt) is read as data, so that nothing in it runs.

    Raises:
      InputError: when the file cannot be read, or none of its tensors fits.
    """
    if path.suffix == SUFFIX:
        stored = StoredDetector.open(path)
        if stored.architecture != architecture:
            raise InputError(f"{path}: is a detector of {stored.architecture}; expected {architecture}")
        return load_network(path)
    source = Checkpoint(path)
    shapes = {name: place.shape for name, place in source.tensors.items()}
    try:
        network = build_network(architecture, shapes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    own = network.state_dict()
    fitting = [name for name, tensor in own.items() if shapes.get(name) == tuple(tensor.shape)]
    if not fitting:
        raise InputError(f"{path}: none of its tensors fits {architecture}")
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in source.load(fitting).items()}
    check_finite(path, {name: tensor.numpy() for name, tensor in tensors.items()})
    if len(fitting) < len(own):
        return _Tensors(tensors)
    network.load_state_dict(tensors)
    if sorted(source.names) == list(range(network.model[-1].nc)):
        network.names = source.names
    return network
