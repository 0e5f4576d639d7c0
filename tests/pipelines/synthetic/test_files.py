"""The written data set: formats, geometry, sides, determinism and traps."""

import filecmp
import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage, RLELossless

from pipelines.synth import synth
from pipelines.synthetic import SynthOptions, generate
from pipelines.synthetic.anatomy.patient import draw_case
from pipelines.synthetic.dicom_files import write_series
from pipelines.synthetic.grades import sample_labels
from pipelines.synthetic.scanner.scan import StudyPlan, _coarser, scan_study
from pipelines.synthetic.scanner.series import Scan, StoredSeries
from pipelines.synthetic.scanner.stack import Stack
from pipelines.synthetic.simulate import StudyJob, StudyRecord, simulate_study
from pipelines.synthetic.traps.assign import TRAPS, assign_traps
from pipelines.synthetic.traps.file_traps import FILE_TRAPS
from pipelines.synthetic.traps.label_traps import LABEL_TRAPS
from shared.geometry import Plane
from shared.labels import FINDINGS, Condition, Finding, Level, Side, View, parse_row_id
from shared.runtime.errors import InputError

STUDIES = 2  # of `few_studies`
# The package has a function of this name.
generator = importlib.import_module("pipelines.synthetic.generate")


@pytest.fixture
def root(few_studies: Path) -> Path:
    return few_studies


@pytest.fixture
def points(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "data" / "train_label_coordinates.csv", dtype={"study_id": str, "series_id": str})


@pytest.fixture(scope="module")
def scan() -> Scan:
    labels = sample_labels(2, 9)
    seed = np.random.SeedSequence(9)
    plan = StudyPlan(
        study_id="77",
        seed=seed,
        latent=labels.latent[0],
        grade=np.zeros(25, dtype=np.int64),
        degeneration=0.0,
        preset="demo",
    )
    return scan_study(plan, np.random.default_rng(seed))


def _plane(ds: pydicom.Dataset) -> Plane:
    return Plane.from_arrays(
        origin_mm=ds.ImagePositionPatient,
        row_dir=ds.ImageOrientationPatient[:3],
        col_dir=ds.ImageOrientationPatient[3:],
        spacing_mm=ds.PixelSpacing,
    )


def _points_mm(root: Path, points: pd.DataFrame) -> dict[tuple[str, Finding], np.ndarray]:
    found = {}
    row: Any
    for row in points.itertuples():
        path = root / "data" / "train_images" / row.study_id / row.series_id / f"{row.instance_number}.dcm"
        plane = _plane(pydicom.dcmread(path, stop_before_pixels=True))
        found[row.study_id, Finding.from_display(row.condition, row.level)] = plane.to_patient([row.x, row.y])
    return found


def test_tables_have_the_challenges_shape(root: Path, points: pd.DataFrame) -> None:
    data, truth = root / "data", root / "truth"
    train = pd.read_csv(data / "train.csv", dtype=str)
    assert list(train.columns) == ["study_id", *(f.column for f in FINDINGS)]
    assert len(train) == STUDIES
    assert set(train.iloc[:, 1:].stack().dropna()) <= {"Normal/Mild", "Moderate", "Severe"}
    series = pd.read_csv(data / "train_series_descriptions.csv", dtype=str)
    assert sorted(series.series_description.unique()) == sorted(v.value for v in View)
    assert len(pd.read_csv(truth / "test.csv")) == 1
    assert len(pd.read_csv(truth / "oracle.csv")) == (STUDIES + 1) * 25
    assert len(pd.read_csv(truth / "latents.csv")) == (STUDIES + 1) * 25
    assert set(points.series_id) <= set(series.series_id)
    graded = int(train.iloc[:, 1:].notna().to_numpy().sum())
    assert graded - 3 <= len(points) <= graded


def test_sample_submission_lists_the_test_rows(root: Path) -> None:
    table = pd.read_csv(root / "data" / "sample_submission.csv")
    (study,) = (p.name for p in (root / "data" / "test_images").iterdir())
    assert table.row_id.tolist() == sorted(f.row_id(study) for f in FINDINGS)
    assert {parse_row_id(r)[0] for r in table.row_id} == {study}
    assert np.allclose(table[["normal_mild", "moderate", "severe"]], 1 / 3)


def test_oracle_rows_are_probabilities(root: Path) -> None:
    table = pd.read_csv(root / "truth" / "oracle.csv")
    values = table[["normal_mild", "moderate", "severe"]].to_numpy()
    assert (values > 0).all()
    assert np.allclose(values.sum(axis=1), 1, atol=1e-6)


def test_files_look_like_the_challenges(root: Path) -> None:
    frames = set()
    for folder in sorted((root / "data" / "train_images").glob("*/*")):
        path = min(folder.iterdir())
        ds = pydicom.dcmread(path)
        assert ds.file_meta.TransferSyntaxUID == RLELossless
        assert ds.file_meta.MediaStorageSOPClassUID == EnhancedMRImageStorage
        assert "Modality" not in ds
        assert "SOPClassUID" not in ds
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation) == (16, 12, 11, 0)
        assert ds.PhotometricInterpretation == "MONOCHROME2"
        assert ds.PatientPosition == "HFS"
        assert int(path.stem) == ds.InstanceNumber
        pixels = ds.pixel_array
        assert pixels.shape == (ds.Rows, ds.Columns)
        assert pixels.max() <= 4095
        assert pixels.std() > 5
        frames.add(ds.FrameOfReferenceUID)
    assert len(frames) == STUDIES * 3


def test_points_of_a_level_agree_between_views(root: Path, points: pd.DataFrame) -> None:
    where = _points_mm(root, points)
    for study in points.study_id.unique():
        for level in Level:
            at = {f: p for (s, f), p in where.items() if s == study and f.level is level}
            canal = at.get(Finding(condition=Condition.CANAL, side=None, level=level))
            sides = [at.get(Finding(condition=Condition.SUBARTICULAR, side=side, level=level)) for side in Side]
            if canal is None or any(p is None for p in sides):
                continue
            assert np.linalg.norm(canal - np.mean([p for p in sides if p is not None], axis=0)) < 9
            foramina = [at.get(Finding(condition=Condition.FORAMINAL, side=side, level=level)) for side in Side]
            for point in foramina:
                assert point is None or 8 < np.linalg.norm(canal - point) < 35


def test_a_coarser_matrix_keeps_the_geometry(scan: Scan) -> None:
    """A bright pixel lies at the same place of the patient after resampling."""
    t2 = next(s for s in scan.series if s.view is View.SAGITTAL_T2)
    rows, columns = t2.slices[0].pixels.shape
    stack = Stack(view=t2.view, planes=(t2.slices[0].plane,), shape=(rows, columns), thickness_mm=4.0, gap_mm=4.0)
    y, x = np.mgrid[:rows, :columns]
    blob = (4000 * np.exp(-((x - 70.3) ** 2 + (y - 101.6) ** 2) / 50)).astype(np.uint16)
    coarse, (image,) = _coarser(stack, blob[None], 0.8)
    rows, columns = coarse.shape
    y, x = np.mgrid[:rows, :columns]
    center = [np.average(x, weights=image), np.average(y, weights=image)]
    want = stack.planes[0].to_patient([70.3, 101.6])
    assert np.allclose(coarse.planes[0].to_patient(center), want, atol=0.1)


def test_left_is_plus_x(root: Path, points: pd.DataFrame) -> None:
    where = _points_mm(root, points)
    pairs = 0
    for (study, finding), point in where.items():
        if finding.side is Side.LEFT:
            other = Finding(condition=finding.condition, side=Side.RIGHT, level=finding.level)
            if (study, other) in where:
                assert point[0] > where[study, other][0] + 5
                pairs += 1
    assert pairs > 12
    subarticular = points[points.condition.str.contains("Subarticular")]
    for _, group in subarticular.groupby(["study_id", "level"]):
        x = {name.split()[0]: x for name, x in zip(group.condition, group.x, strict=True)}
        assert len(x) < 2 or x["Left"] > x["Right"]


def test_levels_descend_on_the_sagittal_picture(points: pd.DataFrame) -> None:
    canal = points[points.condition == "Spinal Canal Stenosis"]
    for _, group in canal.groupby("study_id"):
        assert group.sort_values("level").y.is_monotonic_increasing


def test_spine_coordinates_round_trip() -> None:
    """A plane through a point finds the point's own spine coordinates."""
    from pipelines.synthetic.painting.canvas import SpineGrid

    labels = sample_labels(3, 2)
    for n in range(3):
        case = draw_case(labels.latent[n], 0.5, np.random.default_rng(n))
        grid = SpineGrid(case.spine)
        for level, u, v in ((Level.L5_S1, 12.0, 6.0), (Level.L2_L3, -20.0, -15.0)):
            s = case.spine.segments.level_s(level)
            origin = case.spine.to_patient(s, u, v)
            plane = Plane.from_arrays(origin_mm=origin, row_dir=(0, 1, 0), col_dir=(0, 0, -1), spacing_mm=(1, 1))
            points = grid.points(plane, (4, 4))
            assert (points.s[0], points.u[0], points.v[0]) == pytest.approx((s, u, v), abs=0.35)


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_same_bytes_whatever_the_workers(trapped_studies: Path, tmp_path: Path) -> None:
    generate(tmp_path, SynthOptions(studies=2, test_studies=0, seed=21, traps=True), workers=2)
    one, two = _files(trapped_studies), _files(tmp_path)
    assert one.keys() == two.keys()
    assert one == two


def test_an_interrupted_data_set_is_continued_to_the_same_bytes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SynthOptions(studies=STUDIES, test_studies=1, seed=4)
    made: list[str] = []

    def interrupt(series: StoredSeries, folder: Path, rng: np.random.Generator) -> None:
        study_id = folder.parent.name.removeprefix(".")
        if study_id not in made:
            made.append(study_id)
        if len(made) == 3 and len(list(folder.parent.iterdir())) == 1:
            raise KeyboardInterrupt  # one series of the third study is written
        write_series(series, folder, rng)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.synthetic.simulate.write_series", interrupt)
        with pytest.raises(KeyboardInterrupt):
            synth(out, options)
    with pytest.raises(InputError, match="cannot resume, seed changed"):
        synth(out, replace(options, seed=5), resume=True)
    (out / "unfinished" / "results" / f"{made[0]}.jsonl").write_text("damaged")
    made.clear()
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.synthetic.simulate.write_series", interrupt)
        synth(out, options, resume=True)
    assert len(made) == 2  # the one that was interrupted, and the one whose record was damaged
    assert {p.name for p in out.iterdir()} == {".lumbar", "data", "truth", "state.json"}
    for part in ("data", "truth"):
        names = [sorted(str(p.relative_to(of / part)) for p in (of / part).rglob("*")) for of in (root, out)]
        assert names[0] == names[1]
        for name in names[0]:
            assert (root / part / name).is_dir() or filecmp.cmp(root / part / name, out / part / name, shallow=False)


def test_a_study_that_another_generator_or_other_options_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def make(job: StudyJob, folder: Path) -> StudyRecord:
        made.append(job.key)
        folder.mkdir(parents=True)
        return StudyRecord(study_id=job.plan.study_id, points=(), grade=(), series=(), traps=(), summary={})

    def first_job(seed: int) -> StudyJob:
        options = SynthOptions(studies=1, test_studies=0, seed=seed)
        return generator._jobs(generator._labels(options), tmp_path, options)[0]

    monkeypatch.setattr("pipelines.synthetic.simulate._make", make)
    simulate_study(first_job(1))
    simulate_study(first_job(1))
    assert len(made) == 1
    simulate_study(first_job(2))
    monkeypatch.setattr(generator, "GENERATOR_VERSION", "another")
    simulate_study(first_job(2))
    assert len(set(made)) == 3


def test_refuses_to_overwrite_and_to_write_nothing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already exists"):
        generate(root, SynthOptions(studies=1, test_studies=0))
    with pytest.raises(InputError, match="at least one study"):
        generate(tmp_path, SynthOptions(studies=0, test_studies=0))
    with pytest.raises(InputError, match="unknown preset"):
        generate(tmp_path, SynthOptions(studies=1, test_studies=0, preset="huge"))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", list(TRAPS))
def test_every_trap_finds_a_place(name: str, scan: Scan) -> None:
    planted = TRAPS[name](scan, np.random.default_rng(1))
    if name == "reversed_axial" and planted is None:
        pytest.skip("this scan already runs from feet to head")
    assert planted is not None
    changed, detail = planted
    assert detail
    assert changed is not scan
    numbers = {(s.series_id, item.instance_number) for s in changed.series for item in s.slices}
    assert all((p.series_id, p.instance_number) in numbers for p in changed.points)


def test_every_trap_is_assigned() -> None:
    planned = assign_traps(30, 10, seed=0)
    training = [name for study, names in planned.items() if study < 30 for name in names]
    assert set(training) == set(TRAPS)
    assert not any(set(names) & set(LABEL_TRAPS) for study, names in planned.items() if study >= 30)
    assert len(TRAPS) == len(FILE_TRAPS) + len(LABEL_TRAPS)


def test_planted_traps_are_in_the_manifest(trapped_studies: Path) -> None:
    manifest = json.loads((trapped_studies / "truth" / "manifest.json").read_text())
    studies = {p.name for p in (trapped_studies / "data" / "train_images").iterdir()}
    assert len(manifest["traps"]) >= 15
    assert {t["study_id"] for t in manifest["traps"]} == studies
    assert {t["trap"] for t in manifest["traps"]} <= set(TRAPS)
    assert {s["study_id"] for s in manifest["summaries"]} == studies
