"""The notebooks run from top to bottom without a network, and lie in the repository without outputs."""

import json
import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest

from pipelines.pack import PackRequest, pack

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str = "code") -> list[str]:
    book = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def run(name: str, folder: Path, **environment: object) -> tuple[str, int]:
    """What a notebook prints, and how many pictures it shows; runs it in `folder`, without a network.

    Kernels speak with this process through files, so that not even the loopback address is needed.
    """
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from jupyter_client.manager import AsyncKernelManager

    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    own = {
        "IPYTHONDIR": folder, "JUPYTER_RUNTIME_DIR": folder, "JUPYTER_DATA_DIR": folder, "MPLCONFIGDIR": folder,
        "PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)]), **environment,
    }  # fmt: skip
    # Paths of sockets must be short.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as sockets:
        for key, value in own.items():
            patch.setenv(key, str(value))
        kernel = AsyncKernelManager(transport="ipc", ip=f"{sockets}/kernel")
        nbclient.NotebookClient(book, timeout=300, km=kernel, resources={"metadata": {"path": str(folder)}}).execute()
    outputs: list[Any] = [output for cell in book.cells for output in cell.get("outputs", ())]
    text = "".join(o["text"] if "text" in o else o.get("data", {}).get("text/plain", "") for o in outputs)
    return text, sum("image/png" in o.get("data", {}) for o in outputs)


def run_here(name: str, folder: Path, **environment: object) -> tuple[str, int]:
    """As `run`, but in this process: a kernel takes longer to load the libraries than its notebook takes to run."""
    shells = pytest.importorskip("IPython.core.interactiveshell")
    capture = pytest.importorskip("IPython.utils.capture")
    from IPython.display import display
    from traitlets.config import Config

    text, pictures = "", 0
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
        for key, value in {"IPYTHONDIR": folder, **environment}.items():
            patch.setenv(key, str(value))
        patch.chdir(folder)
        patch.setattr(shells.InteractiveShell, "enable_gui", lambda *_: None)
        config = Config({"HistoryManager": {"enabled": False}})
        shell = shells.InteractiveShell.instance(config=config, user_module=ModuleType(name))
        # The value of a cell is shown as what it displays is.
        shell.display_trap.hook = lambda value: None if value is None else display(value)
        try:
            for source in cells(ROOT / "notebooks" / f"{name}.ipynb"):
                with capture.capture_output() as shown:
                    shell.run_cell(source).raise_error()
                text += shown.stdout + "".join(output.data.get("text/plain", "") for output in shown.outputs)
                pictures += sum("image/png" in output.data for output in shown.outputs)
        finally:
            shells.InteractiveShell.clear_instance()
            shell.restore_sys_module_state()
            matplotlib.pyplot.close("all")
            matplotlib.pyplot.switch_backend("agg")
    return text, pictures


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_committed_without_outputs_and_names_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    book = json.loads(text)
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert book["metadata"].keys() == {"kernelspec", "language_info"}
    assert re.findall(r"(?<![\w.])/(?:root|home|Users|work|tmp|mnt|usr)\b[^\s\"]*", text) == []
    pytest.importorskip("nbformat").validate(book)


def test_quickstart(tiny_demo: Path, tmp_path: Path) -> None:
    text, pictures = run_here("quickstart", tmp_path, LUMBAR_DEMO=tiny_demo, LUMBAR_WORK="work")
    assert "numbering:" in text
    assert "weighted prior" in text
    assert pictures == 2
    assert (tmp_path / "work" / "classifier" / "fold0" / "model.safetensors").is_file()


def test_explore(tiny_demo: Path, tmp_path: Path) -> None:
    text, pictures = run("explore", tmp_path, LUMBAR_DATA=tiny_demo / "data", LUMBAR_WORK="work")
    assert "10 training studies" in text
    assert "RLE Lossless" in text
    assert pictures == 5
    assert list((tmp_path / "work" / "store" / "png").rglob("*.png"))


def test_kaggle_inference_predicts_from_a_pack(tiny_demo: Path, tmp_path: Path) -> None:
    given, working = tmp_path / "input", tmp_path / "working"
    for folder in (given / "my-pack", given / "competitions", working):
        folder.mkdir(parents=True)
    (given / "competitions" / "rsna-2024").symlink_to(tiny_demo / "data")
    pack(PackRequest(runs=(tiny_demo / "localizer", tiny_demo / "classifier")), given / "my-pack" / "pack.zip")
    text, pictures = run("kaggle_inference", tmp_path, LUMBAR_INPUT=given, LUMBAR_WORKING=working)
    assert "files are whole" in text
    assert "lumbar-severity" in text
    assert pictures == 1
    ours, expected = (pd.read_csv(p / "submission.csv") for p in (working, tiny_demo))
    assert list(ours["row_id"]) == list(expected["row_id"])
    np.testing.assert_allclose(ours.iloc[:, 1:], expected.iloc[:, 1:], atol=1e-6)


def test_kaggle_inference_finds_packs_that_kaggle_unpacked_and_notices_damage(tiny_demo: Path, tmp_path: Path) -> None:
    search, check = cells(ROOT / "notebooks" / "kaggle_inference.ipynb")[:2]
    (tmp_path / "competition").symlink_to(tiny_demo / "data")
    given = pytest.MonkeyPatch()
    given.setenv("LUMBAR_INPUT", str(tmp_path))
    try:
        with pytest.raises(FileNotFoundError, match="no pack below"):
            exec(search, {})
        folder = tmp_path / "datasets" / "somebody" / "my-pack" / "pack"
        pack(PackRequest(runs=(tiny_demo / "classifier",)), tmp_path / "pack.zip")
        with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
            archive.extractall(folder)
        (tmp_path / "pack.zip").unlink()
        space: dict[str, Any] = {}
        exec(search, space)
        assert (space["PACK"], space["manifest"]["localizers"]) == (folder, [])
        exec(check, space)
        with (folder / "classifier" / "run.json").open("a") as file:
            file.write(" ")
        with pytest.raises(ValueError, match=r"classifier/run\.json differs"):
            exec(check, space)
        shutil.rmtree(folder / "wheels")
        (folder / "classifier" / "run.json").unlink()
        with pytest.raises(FileNotFoundError, match="upload the pack again"):
            exec(check, space)
    finally:
        given.undo()
