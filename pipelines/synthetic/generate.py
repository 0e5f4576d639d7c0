"""Writes a whole synthetic challenge directory and the truth behind it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines.synthetic.grades import READER_NOISE, THRESHOLDS, Labels, latent_scale, sample_labels
from pipelines.synthetic.scanner.scan import StudyPlan
from pipelines.synthetic.scanner.stack import RESOLUTIONS, Preset
from pipelines.synthetic.simulate import StudyJob, StudyRecord, simulate_study
from pipelines.synthetic.tables import write_data, write_truth
from pipelines.synthetic.traps.assign import assign_traps
from shared.labels import FINDINGS
from shared.runtime.errors import InputError
from shared.runtime.files import remove
from shared.runtime.pool import processes
from shared.runtime.progress import track
from shared.runtime.unfinished import UNFINISHED, digest_of

# Changes whenever the same seed gives other bytes.
GENERATOR_VERSION: Final = "5"


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthOptions:
    """What decides the bytes of a synthetic data set.

    Attributes:
      studies: how many go to `train_images`.
      test_studies: how many go to `test_images`.
      preset: "demo" is small and fast, "full" has the challenge's matrix sizes and slice counts.
      seed: of everything that is drawn.
      traps: whether some studies get known faults of the real data; `truth/manifest.json` names them.

    Raises:
      InputError: for a negative count or seed, no study at all, or an unknown preset.
    """

    studies: int = 100
    test_studies: int = 20
    preset: Preset = "demo"
    seed: int = 0
    traps: bool = False

    def __post_init__(self) -> None:
        if self.studies < 0 or self.test_studies < 0 or self.studies + self.test_studies == 0:
            raise InputError(
                f"expected at least one study, got {self.studies} training and {self.test_studies} test studies"
            )
        if self.preset not in RESOLUTIONS:
            raise InputError(f"unknown preset {self.preset!r}: expected one of {', '.join(RESOLUTIONS)}")
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: expected 0 or more")


def generate(out: Path, options: SynthOptions, *, workers: int = 1, resume: bool = False) -> None:
    """Writes `out/data` (the challenge directory) and `out/truth`.

    The same options give the same bytes, whatever the number of workers. Both folders are written in `out/unfinished`
    and moved at the end, so nothing is left half written.

    Args:
      resume: keeps the studies that an interrupted call of this generator with the same options has finished.

    Raises:
      InputError: when `out` already holds a data set, or a worker process dies.
    """
    if (out / "data").exists():
        raise InputError(f"{out / 'data'} already exists: remove it or choose another folder")
    unfinished = out / UNFINISHED
    if not resume:
        remove(unfinished)
    data, truth = unfinished / "data", unfinished / "truth"
    for folder in (data / "train_images", data / "test_images", truth):
        folder.mkdir(parents=True, exist_ok=True)
    labels = _labels(options)
    jobs = _jobs(labels, unfinished, options)
    with processes(workers) as spread:
        records = list(track(spread(simulate_study, jobs), "synthetic studies", total=len(jobs)))
    write_data(data, records, options.studies)
    write_truth(truth, labels, records, options.studies)
    _write_manifest(truth, records, options)
    # The data set counts as written once `data` is there.
    remove(out / "truth")
    for name in ("truth", "data"):
        (unfinished / name).rename(out / name)
    remove(unfinished)


def _labels(options: SynthOptions) -> Labels:
    """Labels of the training studies, then of the test studies.

    Each part has its own seed, so no test patient is also a training patient of another call with the same seed.
    """
    parts = [
        sample_labels(n, np.random.SeedSequence([options.seed, 0, k]))
        for k, n in enumerate((options.studies, options.test_studies))
    ]
    return Labels(
        latent=np.concatenate([p.latent for p in parts]),
        grade=np.concatenate([p.grade for p in parts]),
        degeneration=np.concatenate([p.degeneration for p in parts]),
    )


def _jobs(labels: Labels, folder: Path, options: SynthOptions) -> list[StudyJob]:
    """One job per study, training studies first; ids are numeric strings like the challenge's."""
    planned = assign_traps(options.studies, options.test_studies, options.seed) if options.traps else {}
    key = digest_of(GENERATOR_VERSION, asdict(options))
    count, seed, studies = len(labels.latent), options.seed, options.studies
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    ids = rng.choice(2**32 - 4 * 10**6, size=count, replace=False) + 4 * 10**6
    return [
        StudyJob(
            plan=StudyPlan(
                study_id=str(ids[n]),
                seed=np.random.SeedSequence([seed, 2, 0, n] if n < studies else [seed, 2, 1, n - studies]),
                latent=labels.latent[n],
                grade=labels.grade[n],
                degeneration=float(labels.degeneration[n]),
                preset=options.preset,
            ),
            images=folder / "data" / ("train_images" if n < studies else "test_images"),
            kept=folder / "results",
            key=key,
            traps=planned.get(n, ()),
        )
        for n in range(count)
    ]


def _write_manifest(truth: Path, records: Sequence[StudyRecord], options: SynthOptions) -> None:
    manifest: dict[str, Any] = {
        "schema": "synth-manifest-1",
        "version": GENERATOR_VERSION,
        "seed": options.seed,
        "preset": options.preset,
        "studies": options.studies,
        "test_studies": options.test_studies,
        "parameters": {
            "reader_noise": {c.short: noise for c, noise in READER_NOISE.items()},
            "thresholds": list(THRESHOLDS),
            "latent_scale": {f.column: [round(v, 6) for v in latent_scale(f)] for f in FINDINGS},
            "resolution": asdict(RESOLUTIONS[options.preset]),
        },
        "traps": [{"study_id": r.study_id, "trap": name, "detail": text} for r in records for name, text in r.traps],
        "summaries": [r.summary for r in records],
    }
    (truth / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
