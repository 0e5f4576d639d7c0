"""`lumbar demo`: `plan` what it is asked for and what that costs, `run` the pipeline, `steps` the time that is left."""

from pipelines.demo.plan import DEMO_FOLD, FOLDS, DemoOptions
from pipelines.demo.run import AT_TRUE_POINTS, OURS, demo, grade_unseen

__all__ = ["AT_TRUE_POINTS", "DEMO_FOLD", "FOLDS", "OURS", "DemoOptions", "demo", "grade_unseen"]
