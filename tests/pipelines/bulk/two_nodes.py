"""The cluster of test_ray.py: python -m tests.pipelines.bulk.two_nodes DATA OUT

Three runs on one cluster: jobs of which one kills its processes, a prediction during which a node is killed, and a
prediction with a study that kills its processes.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.grader import Grader
from pipelines.predict import run as predict_run
from pipelines.result import StudyResult
from shared.data.source import open_source
from shared.out_of_fold import FoldModels
from shared.runtime.bulk.engine import Engine, spread_over
from shared.runtime.bulk.ray_cluster import connected, load_ray
from shared.study import LoadedStudy
from tests.pipelines.bulk.case import load, predicted, request_of
from tests.pipelines.bulk.squares import given_up, square

# Ray gives its own processes 15 seconds to start, which cannot be changed.
TOO_BUSY = 77


class _Slow(Grader):
    """Takes a moment, so that a node can die meanwhile."""

    def predict(self, study: Any) -> StudyResult:
        time.sleep(0.3)
        return super().predict(study)


class _Deadly(Grader):
    def predict(self, study: Any) -> StudyResult:
        assert isinstance(study, LoadedStudy)
        if study.study.study_id == "104":
            os._exit(1)
        return super().predict(study)


def slow(folds: Sequence[int] | None) -> Grader:
    inner = load(folds)
    return _Slow(localizer=inner.localizer, classifier=inner.classifier)


def deadly(folds: Sequence[int] | None) -> Grader:
    inner = load(folds)
    return _Deadly(localizer=inner.localizer, classifier=inner.classifier)


def main(data: Path, out: Path) -> None:
    load_ray()  # which settles where Ray's processes listen, before anything else of it is imported
    from ray.cluster_utils import Cluster

    local = {"node_ip_address": "127.0.0.1", "include_dashboard": False, "num_cpus": 1}
    try:
        cluster = Cluster(initialize_head=True, head_node_args=local)
        second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    except Exception as error:  # Ray raises a bare Exception
        if "timed out during startup" not in str(error):
            raise
        sys.exit(TOO_BUSY)
    os.environ["RAY_ADDRESS"] = cluster.address
    told: dict[str, Any] = {}
    patch = pytest.MonkeyPatch()
    with connected():
        with spread_over(Engine.RAY, 1) as spread:
            told["squares"] = list(spread(square, range(6), lost=given_up))
        request = request_of(data, engine=Engine.RAY)
        patch.setattr(predict_run, "source_and_models", lambda r: (open_source(r.data), FoldModels(deadly)))
        with patch.context() as sooner:  # each process takes seconds to begin
            sooner.setattr("shared.runtime.bulk.crew.MOST_ENDED", 2)
            predicted(request, out / "killer")
        patch.setattr(predict_run, "source_and_models", lambda r: (open_source(r.data), FoldModels(slow)))
        track: Any = vars(predict_run)["track"]

        def watched(answers: Any, *words: Any, **more: Any) -> Any:
            for n, answer in enumerate(track(answers, *words, **more)):
                if n == 1:
                    cluster.remove_node(second, allow_graceful=False)
                    told["killed_after"] = n + 1
                yield answer

        patch.setattr(predict_run, "track", watched)
        predicted(request, out / "ray")
    cluster.shutdown()
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    os.environ["HTTP_PROXY"] = "http://127.0.0.1:9"  # as for a cluster of our own: nothing asks where it runs
    from tests.pipelines.bulk.two_nodes import main as imported  # by its name, which the cluster's processes know it by

    imported(Path(sys.argv[1]), Path(sys.argv[2]))
