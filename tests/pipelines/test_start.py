"""What `lumbar predict` imports before the first study: every package here took a tenth of a second to two seconds."""

import json
import subprocess
import sys

_SCRIPT = """
import json, sys
import pipelines.predict.run
light = sorted(sys.modules)
from localize.detector.yolo.library import ultralytics
ultralytics()
import ultralytics.nn.tasks
import classify.network.model, classify.predict
print(json.dumps([light, sorted(sys.modules)]))
"""
_LATE = ("torch", "torchvision", "ultralytics", "matplotlib")
_NEVER = ("sklearn", "scipy.stats", "scipy.optimize")


def test_prediction_imports_nothing_that_only_training_or_reports_need() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    checked, loaded = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in (*_LATE, *_NEVER) if name in checked] == []
    assert [name for name in _NEVER if name in loaded] == []
