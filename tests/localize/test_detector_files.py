"""Detectors on disk: what is written, what is refused, and that nothing in a foreign file runs."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from localize.config import FAMILIES, LocalizeConfig
from localize.convert import convert
from localize.detector.checkpoint import Checkpoint
from localize.detector.weights_file import write_detector
from localize.detector.yolo.continuation import load_state
from localize.detector.yolo.library import ultralytics
from localize.detector.yolo.network import architecture_yaml, build_network, load_donor, load_network
from localize.localizer import Localizer
from shared.labels import View
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.ownership import MARKER
from shared.runtime.run_folder import sha256_of

NANO = "yolo11n.yaml"
_NEWER = ("log.csv", "failures.csv")  # files that runs of the old format did not have


@pytest.fixture(scope="module")
def network() -> Any:
    return build_network(NANO, {})


@pytest.fixture(scope="module")
def file(network: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("detector") / "a.safetensors"
    write_detector(path, NANO, network.state_dict())
    return path.read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_survives_its_file(family: str, tmp_path: Path) -> None:
    first = build_network(f"{family}n.yaml", {}).half()
    path, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_detector(path, f"{family}n.yaml", first.state_dict())
    loaded = load_network(path)
    write_detector(again, f"{family}n.yaml", loaded.state_dict())
    assert path.read_bytes() == again.read_bytes()
    with torch.inference_mode():
        raw = loaded.eval()(torch.rand(1, 1, 64, 96))[0]
    assert raw.shape == (1, 9, 126)


def test_kernels_of_8_bits_halve_the_file_and_move_no_weight_by_more_than_half_a_step(
    network: Any, file: bytes, tmp_path: Path
) -> None:
    path, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_detector(path, NANO, network.state_dict(), kernel_bits=8)
    loaded = load_network(path)
    assert path.stat().st_size < 0.55 * len(file)
    for name, weight in network.state_dict().items():
        if weight.ndim == 4:
            step = weight.abs().amax((1, 2, 3), keepdim=True) / 127
            assert ((loaded.state_dict()[name] - weight).abs() <= 0.501 * step).all()
    write_detector(again, NANO, loaded.state_dict(), kernel_bits=8)
    assert path.read_bytes() == again.read_bytes()


def _with_header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _about(**values: object) -> Callable[[dict[str, Any]], object]:
    def change(header: dict[str, Any]) -> None:
        about = json.loads(header["__metadata__"]["detector"])
        header["__metadata__"]["detector"] = json.dumps(about | values)

    return change


def _tensor(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda header: header["model.0.conv.weight"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_about(architecture="yolo11s.yaml"), "expected yolo11s"),
        (_about(architecture="../../evil.yaml"), "architecture"),
        (_about(architecture="https://example.org/yolo11n.yaml"), "architecture"),
        (_about(architecture=["yolo11n.yaml"]), "architecture"),
        (_about(activation="torch.nn.SiLU()"), "activation"),
        (_about(channels=3), "channels"),
        (_about(levels=["l5_s1", "l4_l5", "l3_l4", "l2_l3", "l1_l2"]), "levels"),
        (_about(version=2), "version"),
        (lambda header: header.pop("__metadata__"), "no detector"),
        (lambda header: header.pop("model.0.conv.weight"), "no usable weights"),
        (lambda header: header.update(more=header.pop("model.0.conv.weight")), "unknown tensor|no tensor"),
        (_tensor(shape=[16, 2**20, 2**20, 2**20]), "input channels"),
        (_tensor(shape=[8, 1, 6, 3]), r"expected float16 of shape \[16, 1, 3, 3\]"),
        (_tensor(shape=[-1, 1, 3, 3]), "shape"),
        (_tensor(dtype="BF16"), "BF16"),
        (_tensor(data_offsets=[0, 2**60]), "no usable weights"),
        (lambda header: header["model.23.cv3.0.2.weight"].update(shape=[10**6, 10**6, 1, 1]), "classes"),
    ],
)  # fmt: skip
def test_a_foreign_header_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, file: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(_with_header(file, change))
    with pytest.raises(InputError, match=message) as refusal:
        load_network(path)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_damaged_files_are_refused(file: bytes, network: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    deep = b"[" * 500_000
    for data in (b"", b"x", file[:5000], file[:-2], b"\xff" * 64, len(deep).to_bytes(8, "little") + deep):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.safetensors"):
            load_network(path)
    infinite = {name: t.clone() for name, t in network.state_dict().items()}
    infinite["model.0.bn.weight"][0] = float("inf")
    write_detector(path, NANO, infinite)
    with pytest.raises(InputError, match=r"model\.0\.bn\.weight holds values that are not finite"):
        load_network(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"a\.safetensors: is no regular file"):
        load_network(path)


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def _save_checkpoint(path: Path, model: Any, **more: object) -> None:
    torch.save({"epoch": -1, "ema": None, "model": model, "train_args": {"imgsz": 96}, **more}, path)


def _downloading() -> _Call:
    """A constructor on the library's allow-list that downloads."""
    ultralytics()
    from ultralytics.nn.modules.block import TorchVision

    return _Call(TorchVision, "resnet18", "DEFAULT")


def test_nothing_in_a_checkpoint_runs(network: Any, tmp_path: Path) -> None:
    """The session's network guard would also record a connection that was tried and failed."""
    path, trace = tmp_path / "a.pt", tmp_path / "trace"
    for call in (_downloading(), _Call(os.system, f"touch {trace}"), _Call(open, str(trace), "w")):
        _save_checkpoint(path, call)
        with pytest.raises(InputError, match="holds no Ultralytics model"):
            load_donor(path, NANO)
        trojan = deepcopy(network)
        trojan.hidden = call
        _save_checkpoint(path, trojan, hidden=call)
        donor = load_donor(path, NANO)
        assert torch.equal(donor.state_dict()["model.0.conv.weight"], network.state_dict()["model.0.conv.weight"])
        assert not trace.exists()


def test_a_state_that_would_call_anything_is_not_resumed(
    network: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, trace = tmp_path / "state.pt", tmp_path / "trace"
    _save_checkpoint(path, network, epoch=3)  # the library's own state
    assert load_state(path) is None
    assert "training of this detector starts again" in capsys.readouterr().err
    whole = {"version": 2, "epoch": 3, "model": {}}
    torch.save(whole, path)
    assert load_state(path) == whole
    content = path.read_bytes()
    for cut in (0, 10, len(content) // 2):
        path.write_bytes(content[:cut])
        assert load_state(path) is None
    torch.save(whole | {"hidden": _Call(os.system, f"touch {trace}")}, path)
    assert load_state(path) is None
    assert not trace.exists()


def _archive(program: bytes, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("a/data.pkl", program)
    return buffer.getvalue()


_NESTED = b"\x80\x02}(" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 80 + b"K\x01u."


@pytest.mark.parametrize(
    "data",
    [
        b"no archive",
        _archive(b""),
        _archive(b"\x80\x02}r\xff\xff\xff\xff."),  # a memo of 2**32 entries
        _archive(_NESTED),  # a key whose hash takes 2**80 steps
        _archive(b"(" * 2**16 + b"t" * 2**16 + b"."),
        _archive(b"\x80\x02X\xff\xff\xff\x7f."),  # a string of 2 GiB
        _archive(b"\x80\x02" + b"0" * 50),
        _archive(b"}" * 2**23, compression=zipfile.ZIP_DEFLATED),
        _archive(pickle.dumps({"model": {}}, 2)),
        _archive(pickle.dumps({"model": _Call(eval, "1")}, 4)),
    ],
    ids=range(10),
)  # fmt: skip
def test_hostile_pickles_are_refused_quickly(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.pt"):
        Checkpoint(path)


class _Module:
    """Pickles as a module of a network does."""

    def __init__(self, **state: object) -> None:
        self.__dict__ = {f"_{name}": value for name, value in state.items()}


def test_a_network_of_very_many_tensors_is_refused_quickly(tmp_path: Path) -> None:
    parameters = dict.fromkeys(map(str, range(15_000)))
    modules = {str(n): _Module(parameters=parameters) for n in range(15_000)}
    path = tmp_path / "a.pt"
    path.write_bytes(_archive(pickle.dumps({"model": _Module(modules=modules)}, 2)))
    with pytest.raises(InputError, match=r"a\.pt: has more modules or tensors than any detector"):
        Checkpoint(path)


def test_one_storage_is_not_read_for_very_many_tensors(tmp_path: Path) -> None:
    weights = torch.zeros(2**16)
    path = tmp_path / "a.pt"
    _save_checkpoint(path, torch.nn.ParameterDict({str(n): torch.nn.Parameter(weights[n:]) for n in range(20)}))
    checkpoint = Checkpoint(path)
    assert len(checkpoint.tensors) == 20
    with pytest.raises(InputError, match=r"a\.pt: tensor '[0-9]+' is shared by too many others"):
        checkpoint.load(checkpoint.tensors)


@pytest.mark.parametrize("kind", ["same", "coco", "imagenet"])
def test_training_starts_from_what_the_library_would_load(kind: str, network: Any, tmp_path: Path) -> None:
    ultralytics()
    from ultralytics.nn.tasks import ClassificationModel, DetectionModel, load_checkpoint, yaml_model_load

    path = tmp_path / "a.pt"
    if kind == "imagenet":
        source: Any = ClassificationModel(yaml_model_load("yolo11n-cls.yaml"), ch=3, nc=1000, verbose=False)
    elif kind == "coco":
        source = DetectionModel(architecture_yaml(NANO), ch=3, nc=80, verbose=False)
        source.names = {i: f"thing {i}" for i in range(79)} | {79: "l3_l4"}
    else:
        source = network
    _save_checkpoint(path, deepcopy(source).half())
    started = []
    for donor in (lambda: load_checkpoint(path)[0], lambda: load_donor(path, NANO)):
        torch.manual_seed(0)
        model = DetectionModel(architecture_yaml(NANO), ch=1, nc=5, verbose=False)
        model.names = {0: "l1_l2", 1: "l2_l3", 2: "l3_l4", 3: "l4_l5", 4: "l5_s1"}
        model.load(donor(), verbose=False)
        started.append(model.state_dict())
    expected, got = started
    assert list(expected) == list(got)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    if kind == "coco":  # the width of its score branches stays, also in the file of the trained detector
        write_detector(tmp_path / "a.safetensors", NANO, got)
        load_network(tmp_path / "a.safetensors")


def test_weights_that_do_not_fit_are_refused(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    other = torch.nn.Sequential(torch.nn.Linear(2, 2))
    _save_checkpoint(path, other)
    with pytest.raises(InputError, match="none of its tensors fits yolo11n"):
        load_donor(path, NANO)
    changed = deepcopy(network)
    changed.model[0].conv.weight = torch.nn.Parameter(torch.zeros(16, 7, 3, 3))
    _save_checkpoint(path, changed)
    with pytest.raises(InputError, match="7 input channels"):
        load_donor(path, NANO)


@pytest.mark.parametrize("architecture", ["yolo99x.yaml", "/tmp/a.yaml", "yolo11n.pt", "rtdetr-l.yaml"])
def test_only_known_architectures_are_built(architecture: str) -> None:
    with pytest.raises(InputError, match="expected yolov8, yolo11"):
        LocalizeConfig.load(None, (f'model.architecture="{architecture}"',))


def test_an_old_run_is_converted_into_the_same_detectors(run: Path, tmp_path: Path) -> None:
    old, new = Path(shutil.copytree(run, tmp_path / "old")), tmp_path / "new"
    digests = {}
    for view in View:
        path = old / "fold0" / f"{view.slug}.safetensors"
        _save_checkpoint(path.with_suffix(".pt"), load_network(path).half())
        path.unlink()
        digests[view.slug] = sha256_of(path.with_suffix(".pt"))
    manifest = read_json(run / "run.json")
    write_json(old / "run.json", manifest | {"folds": {"0": {"models": digests}}})
    with pytest.raises(InputError, match="lumbar localize convert"):
        Localizer.load(old, device="cpu")
    convert(old, new)
    assert read_json(new / "run.json") == manifest
    for path in (p for p in run.rglob("*") if p.is_file() and p.name not in (MARKER, *_NEWER)):
        assert (new / path.relative_to(run)).read_bytes() == path.read_bytes(), path
    with pytest.raises(InputError, match="today's format already"):
        convert(new, tmp_path / "again")
    (old / "fold0" / "axial_t2.pt").write_bytes(b"changed")
    with pytest.raises(InputError, match="SHA-256"):
        convert(old, tmp_path / "again")
    assert not (tmp_path / "again").exists()
