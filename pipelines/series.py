"""`lumbar series`: which series of each study would be used for which view, which not, and why. Loads no model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.data.challenge import listed_parts
from shared.data.source import open_parts
from shared.data.store import is_store
from shared.data.unpack import open_input
from shared.dicom.discover import Discovery, FoundStudy, discover_studies

_VIEW_WIDTH, _SLICES_WIDTH = 16, 6


def series_table(data: Path) -> tuple[str, dict[str, Any]]:
    """The table as text and as JSON-ready values.

    Args:
      data: DICOM files in any folder or archive, one DICOM file, a challenge directory, or a prepared store.

    Raises:
      InputError: for a folder that is missing or holds no readable DICOM image.
    """
    folder = open_input(data).folder
    if listed_parts(folder) or is_store(folder):
        return _listed(data)
    found = discover_studies(folder)
    return _as_text(found), _to_json(found)


def _listed(data: Path) -> tuple[str, dict[str, Any]]:
    """Series whose views the challenge's tables, or a store, already say."""
    lines, studies = [], []
    for source in open_parts(data):
        for study_id in source.study_ids:
            loaded = source.load(study_id)
            lines.append(f"study {study_id}")
            lines += [_line(s.view.value, len(s.slices), s.series_id, "") for s in loaded.study.series]
            lines += [f"  {problem}" for problem in loaded.problems]
            series = [
                {"series_id": s.series_id, "view": s.view.slug, "slices": len(s.slices), "used": True}
                for s in loaded.study.series
            ]
            studies.append({"study_id": study_id, "series": series, "problems": list(loaded.problems)})
    return "\n".join(lines), {"studies": studies}


def _as_text(found: Discovery) -> str:
    lines = [line for study in found.studies for line in _study_lines(study)]
    return "\n".join([*lines, str(found.files)])


def _study_lines(found: FoundStudy) -> list[str]:
    lines = [f"study {found.study.study_id}", *(f"  {remark}" for remark in found.remarks)]
    for series in sorted(found.series, key=lambda s: (not s.used, str(s.verdict.view), s.series_id)):
        view = series.verdict.view.value if series.used and series.verdict.view else "not used"
        lines.append(_line(view, series.slices, series.series_id, "; ".join(series.verdict.reasons)))
        lines += [f"{'':{_VIEW_WIDTH + _SLICES_WIDTH + 3}} {remark}" for remark in series.remarks]
    return [*lines, *(f"  unreadable: {error}" for error in found.unreadable)]


def _line(view: str, slices: int, series_id: str, reasons: str) -> str:
    return f"  {view:{_VIEW_WIDTH}} {slices:>{_SLICES_WIDTH}} {series_id}" + (f": {reasons}" if reasons else "")


def _to_json(found: Discovery) -> dict[str, Any]:
    studies = [
        {
            "study_id": study.study.study_id,
            "series": [
                {
                    "series_id": s.series_id,
                    "view": s.verdict.view.slug if s.verdict.view else None,
                    "slices": s.slices,
                    "used": s.used,
                    "score": s.verdict.score,
                    "reasons": list(s.verdict.reasons),
                    "remarks": list(s.remarks),
                }
                for s in study.series
            ],
            "problems": list(study.problems),
        }
        for study in found.studies
    ]
    return {"studies": studies, "files": asdict(found.files)}
