"""All JSON files by the name and version of their schema, and the JSON Schemas made of their types.

The number at the end of a name rises when a key goes, or gets another name or meaning. A new key leaves it as it is,
so readers must pass over keys that they do not know: the JSON Schemas allow them, the types here do not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from classify.network.checkpoint import CardFile
from classify.network.fast import FastFile
from localize.calibrate import CalibrationFile
from localize.decoding.prior import PriorFile
from pipelines.ensembles.weights import WeightsFile
from pipelines.pack.pack import Manifest as PackManifest
from pipelines.schemas import data, localizer, runs, scores, study
from shared.backends.exported import ExportFile
from shared.data.store import IndexFile
from shared.jitter import ErrorsFile
from shared.runtime.documents import Document, adapter_of
from shared.splits import SplitsFile

SCHEMAS: Final[Mapping[str, type[Document]]] = {
    "audit-report-1": data.AuditReport,
    "chain-1": PriorFile,
    "classifier-fast-1": FastFile,
    "classifier-model-3": CardFile,
    "classifier-report-1": scores.ClassifierReport,
    "combine-report-1": scores.CombineReport,
    "combine-weights-1": WeightsFile,
    "evaluation-report-1": scores.EvaluationReport,
    "export-1": ExportFile,
    "info-1": data.Info,
    "localizer-calibration-1": CalibrationFile,
    "localizer-metrics-1": localizer.FoldMetrics,
    "localizer-report-1": localizer.LocalizerReport,
    "pack-manifest-1": PackManifest,
    "point-errors-1": ErrorsFile,
    "run-classify-1": runs.ClassifyRun,
    "run-classify-prediction-1": runs.ClassifyPredictRun,
    "run-combine-1": runs.CombineRun,
    "run-demo-1": runs.DemoRun,
    "run-localize-1": runs.LocalizeRun,
    "run-localize-prediction-1": runs.LocalizePredictRun,
    "run-predict-1": runs.PredictRun,
    "run-prepare-1": runs.PrepareRun,
    "runs-1": runs.RunList,
    "scores-1": scores.Scores,
    "series-1": data.SeriesTable,
    "splits-1": SplitsFile,
    "store-index-1": IndexFile,
    "study-1": study.StudyFile,
    "synth-manifest-1": data.Manifest,
}
# Files that trained runs and stores hold and programs of ours read back: they name no schema, but a version or format.
UNNAMED: Final = {
    "chain-1": "fold<K>/chain.json", "classifier-model-3": "fold<K>/model.json", "combine-weights-1": "weights.json",
    "localizer-calibration-1": "fold<K>/calibration.json", "splits-1": "splits.json", "store-index-1": "store.json",
}  # fmt: skip
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a file; unknown keys fit it."""
    made = adapter_of(SCHEMAS[name]).json_schema(by_alias=True, mode="validation")
    return {"$schema": _DIALECT, "$id": f"{name}.json", **_opened(made)}


def _opened(part: Any) -> Any:
    """A schema without the words that forbid unknown keys."""
    if isinstance(part, dict):
        return {k: _opened(v) for k, v in part.items() if not (k == "additionalProperties" and v is False)}
    return [_opened(item) for item in part] if isinstance(part, list) else part


def write_schemas(folder: Path) -> None:
    """Writes `<name>.json` for every schema."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCHEMAS:
        text = json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
