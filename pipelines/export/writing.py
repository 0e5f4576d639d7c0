"""Writes a network as ONNX."""

import warnings
from pathlib import Path
from typing import Final

import onnx
import torch

from pipelines.export.networks import TorchNetwork
from shared.labels import Level, Severity
from shared.runtime.errors import InputError, first_line
from shared.runtime.files import written_beside
from shared.runtime.run_folder import package_version

# Both libraries of 2023 and later read it.
OPSET: Final = 18


def write_onnx(network: TorchNetwork, path: Path) -> None:
    """Writes one file that needs no other; equal weights give equal bytes.

    torch's exporter of traces is used (`dynamo=False`): see docs/adr/0036.
    """
    output, output_axes = network.output
    axes = {**network.inputs, output: output_axes}
    example = tuple(torch.from_numpy(array) for array in network.arrays(network.shapes[1]))
    with written_beside(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its end in some later release, and of shapes, which are compared anyway
        try:
            torch.onnx.export(
                network.module, example, temporary, input_names=list(network.inputs), output_names=[output],
                opset_version=OPSET, dynamo=False,
                dynamic_axes={k: {n: a for n, a in enumerate(v) if isinstance(a, str)} for k, v in axes.items()},
            )  # fmt: skip
        except RuntimeError as error:  # an operator that ONNX lacks, for example
            raise InputError(f"{network.weights}: torch cannot export it ({first_line(error)}); use torch") from error
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, _about(network))
        onnx.save(model, temporary)


def _about(network: TorchNetwork) -> dict[str, str]:
    """What a program that knows only the file must know."""
    shared = {"source": f"lumbar-severity {package_version()}", "license": "AGPL-3.0-only", "network": network.name}
    if network.is_detector:
        return shared | {
            "input": "grey slices, upright, resampled to the run's mm_per_px and padded with black, divided by 255",
            "output": "centre x, centre y, width and height in pixels, then a score per level, of each anchor",
            "levels": ", ".join(level.slug for level in Level),
        }
    return shared | {
        "input": "crops of zero mean and unit deviation; family and level of each finding",
        "output": "logits, before the temperature of model.json; their softmax carries the metric's weights",
        "grades": ", ".join(grade.display for grade in Severity),
    }
