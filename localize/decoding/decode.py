"""Decodes the detections of a study: its spine, how certain the numbering is, and a point for each finding."""

from collections.abc import Sequence
from dataclasses import dataclass

from localize.calibrate import IDENTITY, Calibration, calibrated
from localize.config import LocalizeConfig
from localize.decoding.axial import localize_axial
from localize.decoding.chain import decode_chain
from localize.decoding.lift import lift
from localize.decoding.prior import ChainPrior
from localize.decoding.sagittal import Spine, localize_sagittal, locate_spine
from shared.detections import Detection, Localization
from shared.labels import Finding
from shared.numbering import Numbering
from shared.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDecoding:
    """The result for one study.

    Attributes:
      localizations: a point for each finding that can be placed, in canonical order, with calibrated scores.
      spine: where the five levels are; None without any detection.
      numbering: how certain the levels' names are; None without any detection.
    """

    localizations: dict[Finding, Localization]
    spine: Spine | None
    numbering: Numbering | None


def decode_study(
    study: Study,
    detections: Sequence[Detection],
    prior: ChainPrior,
    config: LocalizeConfig,
    calibration: Calibration = IDENTITY,
) -> StudyDecoding:
    """Decodes the detections of all views. Their order does not matter."""
    detections = sorted(
        detections, key=lambda d: (d.view, d.series_id, d.instance_number, d.level, -d.score, d.box_xyxy_px)
    )
    lifted = lift(study, detections, prior)
    chain = decode_chain(lifted, prior, config.chain)
    spine = locate_spine(chain.levels, lifted, prior)
    found = {} if spine is None else localize_sagittal(study, spine, lifted, prior)
    found |= localize_axial(study, detections, spine, prior, config)
    points = [calibrated(item, calibration) for item in sorted(found.values(), key=lambda x: x.finding.index)]
    return StudyDecoding(localizations={p.finding: p for p in points}, spine=spine, numbering=chain.numbering)
