"""Everything that others wait for, as ratios in one run; writes results/bench.json.

    make bench                                  # all sections, on the models of `make demo`
    python -m benchmarks.bench --only predict   # one section; the others stay as they are in OUT
    python -m benchmarks.bench --quick OUT.json # as small as possible, to see whether it runs
    python -m benchmarks.bench --page           # measures nothing: the table of docs/performance.md from OUT

Machines are noisy: read the ratios, not the seconds, and the load average beside them.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.bench.commands import measure_preparing, measure_start, measure_training
from benchmarks.bench.page import write_page
from benchmarks.bench.predict import COUNTS, QUICK_COUNTS, measure_predict
from benchmarks.bench.reading import measure_reading
from benchmarks.bench.rounds import Line
from benchmarks.results import header, parser, save
from pipelines.synthetic import SynthOptions, generate
from shared.runtime.documents import read_json
from shared.runtime.hardware.cores import usable_cores

SEED: Final = 170017


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the sections measure on.

    Attributes:
      scratch: a folder for whatever a section writes.
      demo: OUT of `lumbar demo`, whose models predict.
      data: synthetic studies of real size; made where none are given.
      others: name -> localizer and classifier to predict with, beside the demo's.
    """

    scratch: Path
    demo: Path
    data: Path | None
    others: Mapping[str, tuple[Path, Path]]
    quick: bool
    rounds: int = 5

    @property
    def runs(self) -> tuple[Path, Path]:
        """Localizer and classifier of the demo."""
        return self.demo / "localizer", self.demo / "classifier"

    def studies(self) -> Path:
        """A challenge directory with as many test studies as the longest command takes."""
        if self.data is not None:
            return self.data
        made = self.scratch / "synth"
        if not made.exists():
            count = (QUICK_COUNTS if self.quick else COUNTS)[-1]
            options = SynthOptions(studies=1, test_studies=count, preset="full", seed=SEED)
            generate(made, options, workers=usable_cores())
        return made / "data"


def _predict(setting: Setting) -> dict[str, Any]:
    return {
        name: measure_predict(setting.studies(), *runs, quick=setting.quick)
        for name, runs in {"the demo's fold": setting.runs, **setting.others}.items()
    }


def _decode(setting: Setting) -> dict[str, Any]:
    paths = sorted((setting.studies() / "test_images").rglob("*.dcm"))
    count, folder = 4 if setting.quick else 60, setting.scratch / "encoded"
    folder.mkdir()
    return _reported(measure_reading(paths[:: max(len(paths) // count, 1)][:count], folder, setting.rounds))


def _prepare(setting: Setting) -> dict[str, Any]:
    return _reported(measure_preparing(4 if setting.quick else 128, setting.rounds))


def _train(setting: Setting) -> dict[str, Any]:
    return _reported(measure_training(setting.rounds, quick=setting.quick))


def _start(setting: Setting) -> dict[str, Any]:
    return _reported(measure_start(setting.studies(), setting.runs, setting.rounds))


def _reported(measured: tuple[list[Line], dict[str, Any]]) -> dict[str, Any]:
    lines, details = measured
    return {"load_average": os.getloadavg()[0], "lines": [own.to_json() for own in lines], "details": details}


SECTIONS: Final[dict[str, Callable[[Setting], dict[str, Any]]]] = {
    "decode": _decode, "prepare": _prepare, "predict": _predict, "train": _train, "start": _start,
}  # fmt: skip


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/bench.json"))
    arguments.add_argument("--only", choices=SECTIONS, action="append", help="measure this section; may be repeated")
    arguments.add_argument("--quick", action="store_true", help="as little as possible")
    arguments.add_argument("--rounds", type=int, default=5, help="turns of each job (default %(default)s)")
    arguments.add_argument("--page", action="store_true", help="only write the table of docs/performance.md")
    arguments.add_argument("--demo", type=Path, default=Path("demo"), help="OUT of lumbar demo (default %(default)s)")
    arguments.add_argument("--data", type=Path, help="challenge directory of synthetic studies of real size")
    arguments.add_argument(
        "--runs", action="append", default=[], nargs=3, metavar=("NAME", "LOCALIZER", "CLASSIFIER"),
        help="other runs to predict with, too",
    )  # fmt: skip
    a = arguments.parse_args()
    others = {name: (Path(localizer), Path(classifier)) for name, localizer, classifier in a.runs}
    result = read_json(a.out) if a.out.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            scratch=Path(folder), demo=a.demo, data=a.data, others=others, quick=a.quick,
            rounds=1 if a.quick else a.rounds,
        )  # fmt: skip
        for name in () if a.page else a.only or SECTIONS:
            command = f"python -m benchmarks.bench --only {name}"
            result[name] = {**header(command), **SECTIONS[name](setting)}
            save(a.out, {section: result[section] for section in SECTIONS if section in result})
    if not a.quick:
        write_page(Path("docs/performance.md"), {section: result[section] for section in SECTIONS if section in result})


if __name__ == "__main__":
    main()
