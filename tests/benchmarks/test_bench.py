"""`make bench`: its page says what its file says, and its parts run."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench.page import table, with_table
from benchmarks.bench.reading import measure_reading
from benchmarks.bench.rounds import in_turn, line
from shared.runtime.documents import read_json
from tests.dicom_files import write_dicom

ROOT = Path(__file__).parents[2]


def test_the_page_agrees_with_the_file() -> None:
    file, page = ROOT / "results" / "bench.json", (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page == with_table(page, read_json(file) if file.is_file() else {})


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=7))
def test_a_line_holds_the_ratios_of_single_rounds(seconds: list[tuple[float, float]]) -> None:
    own = line("a", "b", *zip(*seconds, strict=True))  # type: ignore[misc]
    assert own.low <= own.ratio <= own.high
    assert own.rounds == len(seconds)
    section = {
        "lines": [own.to_json()], "command": "c", "commit": "0123456789ab", "hardware": "h", "load_average": 1.0,
    }  # fmt: skip
    assert f"{own.ratio:.2f}" in table({"part": section})


def test_jobs_take_turns() -> None:
    order: list[str] = []
    times = in_turn({name: lambda name=name: order.append(name) for name in "ab"}, 3)  # type: ignore[misc]
    assert order == ["a", "b"] * 3
    assert [len(own) for own in times.values()] == [3, 3]


def test_files_are_read_in_every_encoding_beside_every_loop(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    paths = [write_dicom(tmp_path / f"{n}.dcm", pixels, BitsStored=12, HighBit=11) for n in range(2)]
    (tmp_path / "encoded").mkdir()
    lines, details = measure_reading(paths, tmp_path / "encoded", 1)
    assert [own.what.split()[0] for own in lines] == ["uncompressed", "RLE", "RLE", "JPEG"]
    assert "pylibjpeg" in details["RLE"]["pydicom_finds"]
