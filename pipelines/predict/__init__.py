"""`lumbar predict`: DICOM files in, 25 submission rows per study and the evidence for them out.

`request` says what to predict with which models, `study` answers one study, and `run` goes over all of them.
"""

from pipelines.predict.request import PredictRequest, models_of
from pipelines.predict.run import output_of, predict, predict_source, predict_unfinished, write_prediction
from pipelines.predict.summary import to_table, write_prediction_run

__all__ = [
    "PredictRequest",
    "models_of",
    "output_of",
    "predict",
    "predict_source",
    "predict_unfinished",
    "to_table",
    "write_prediction",
    "write_prediction_run",
]
