"""Annotated points of the challenge as localizations in patient space: the truth of stage 1, an input of stage 2."""

from collections.abc import Iterable

from shared.data.challenge import Point
from shared.detections import Localization, Source
from shared.labels import Finding
from shared.study import Study


def annotated_localizations(study: Study, points: Iterable[Point]) -> dict[Finding, Localization]:
    """True points of one study, lifted to patient mm.

    Skips points on a missing series or slice, points outside their image, and points on a series of another view than
    the finding's (the real data has canal points on T1). Of several points of one finding the first is used.
    """
    found: dict[Finding, Localization] = {}
    for point in points:
        series = study.get(point.series_id)
        item = series.by_instance(point.instance_number) if series else None
        if series is None or item is None or series.view is not point.finding.view or point.finding in found:
            continue
        if not item.contains((point.x_px, point.y_px)):
            continue
        x_mm, y_mm, z_mm = (float(v) for v in item.plane.to_patient([point.x_px, point.y_px]))
        found[point.finding] = Localization(
            study_id=study.study_id, finding=point.finding, series_id=point.series_id,
            instance_number=point.instance_number, x_px=point.x_px, y_px=point.y_px, point_mm=(x_mm, y_mm, z_mm),
            source=Source.ANNOTATED, score=1.0,
        )  # fmt: skip
    return found
