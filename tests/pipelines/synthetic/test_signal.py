"""The latent is in the pixels: simple measurements on noisy pictures follow it."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pipelines.synthetic.anatomy.patient import Case, draw_case
from pipelines.synthetic.grades import sample_labels
from pipelines.synthetic.painting.contrast import Weighting, draw_palette
from pipelines.synthetic.scanner.acquire import acquire, draw_artefacts
from pipelines.synthetic.scanner.render import render
from pipelines.synthetic.scanner.stack import Stack
from shared.geometry import Plane
from shared.labels import Condition, Finding, Side, View, findings_of

STUDIES = 20
PIXEL_MM = 1.0
SIZE = 49

Image = NDArray[np.float64]


def _plane(case: Case, finding: Finding) -> Plane:
    """A small picture centred on the finding, in the orientation of its view and along the disc."""
    center = case.point_mm(finding)
    tilt = case.spine.heading_rad(case.spine.segments.level_s(finding.level))
    back = np.array([0.0, np.cos(tilt), -np.sin(tilt)])
    if finding.view.is_sagittal:
        row_dir, col_dir = back, np.array([0.0, -np.sin(tilt), -np.cos(tilt)])
    else:
        row_dir, col_dir = np.array([1.0, 0.0, 0.0]), back
    origin = center - (SIZE // 2) * PIXEL_MM * (row_dir + col_dir)
    return Plane.from_arrays(origin_mm=origin, row_dir=row_dir, col_dir=col_dir, spacing_mm=(PIXEL_MM, PIXEL_MM))


def _pictures(case: Case, findings: tuple[Finding, ...], rng: np.random.Generator) -> NDArray[np.uint16]:
    view = findings[0].view
    weighting = Weighting.T1 if view is View.SAGITTAL_T1 else Weighting.T2
    planes = tuple(_plane(case, f) for f in findings)
    stack = Stack(view=view, planes=planes, shape=(SIZE, SIZE), thickness_mm=4.0, gap_mm=4.4)
    palette = draw_palette(rng, (weighting,), case.patient.age)
    signal = render(stack, case, palette, rng)
    back_mm = float(case.point_mm(findings[0])[1]) + 60
    return acquire(signal[0], stack, draw_artefacts(rng), back_mm, rng)


def _sac_depth(image: Image) -> float:
    """What is not dark on a band through the disc, from disc to flavum."""
    bright = np.percentile(image[:, 17:32], 95)
    return float(np.clip(image[22:27, 15:33] / bright - 0.2, 0, 0.3).sum())


def _fat_share(image: Image) -> float:
    """Share of bright pixels around the root."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    bright = np.percentile(image[14:36, 14:34], 98)
    inside = (x / 6.0) ** 2 + (y / 10.0) ** 2 < 1
    return float(np.clip((image[inside] / bright - 0.7) / 0.2, 0, 1).mean())


def _recess_width(image: Image) -> float:
    """Bright area of the recess."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    bright = np.percentile(image[10:39, 10:39], 90)
    return float(np.clip((image[np.hypot(x, y) < 4.5] / bright - 0.3) / 0.2, 0, 1).mean())


MEASURES = {Condition.CANAL: _sac_depth, Condition.FORAMINAL: _fat_share, Condition.SUBARTICULAR: _recess_width}


def _rank_correlation(condition: Condition) -> float:
    labels = sample_labels(STUDIES, 11)
    findings = findings_of(condition)
    latent, measured = [], []
    for n in range(STUDIES):
        rng = np.random.default_rng([5, n])
        case = draw_case(labels.latent[n], float(labels.degeneration[n]), rng)
        for finding, image in zip(findings, _pictures(case, findings, rng), strict=True):
            latent.append(labels.latent[n, finding.index])
            measured.append(MEASURES[condition](image.astype(np.float64)))
    return float(-spearmanr(latent, measured)[0])


@pytest.mark.parametrize("condition", list(Condition))
def test_a_simple_measurement_follows_the_latent(condition: Condition) -> None:
    assert _rank_correlation(condition) > 0.8


def test_left_and_right_do_not_mix() -> None:
    """Closing the left foramen and recess leaves the right ones as they were."""
    open_latent = np.full(25, -1.0)
    closed = open_latent.copy()
    for finding in (*findings_of(Condition.FORAMINAL), *findings_of(Condition.SUBARTICULAR)):
        if finding.side is Side.LEFT:
            closed[finding.index] = 5.0
    for condition in (Condition.FORAMINAL, Condition.SUBARTICULAR):
        findings = findings_of(condition)
        seen = []
        for latent in (open_latent, closed):
            case = draw_case(latent, 0.0, np.random.default_rng(3))
            images = _pictures(case, findings, np.random.default_rng(4)).astype(np.float64)
            seen.append([MEASURES[condition](image) for image in images])
        change = np.array(seen[1]) / np.array(seen[0])
        left = np.array([f.side is Side.LEFT for f in findings])
        assert change[left].max() < 0.85
        assert change[~left].mean() > 0.9
