"""What training and evaluation refuse before they write or delete anything."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import classify.train.run as train_module
from classify.crop_cache import CacheJob, build_cache
from classify.train.command import main
from classify.train.request import TrainingResources
from shared.detections import write_localizations
from shared.jitter import Jitter, write_jitter
from shared.labels import Condition
from shared.out_of_fold import OutOfFold
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.ownership import MARKER
from shared.splits import Splits, make_splits, write_splits

CPU = TrainingResources(device="cpu")


def test_leaking_splits_cannot_be_handed_in(one_fold, splits, points_of, localizer):
    """Every way to train at points that a detector may have seen: none of them gets as far as a request."""
    with pytest.raises(ValueError, match="held out by more than one fold"):
        Splits(seed=0, folds=(("1", "2"), ("2", "3")))
    with pytest.raises(InputError, match="only in the data"):
        replace(one_fold, splits=Splits(seed=0, folds=splits.folds[:2]))
    with pytest.raises(TypeError, match="expected OutOfFold or None, got dict"):
        replace(one_fold, points=points_of())
    points = OutOfFold(localizer)
    assert replace(one_fold, points=points).measured == points.jitter
    assert set(points.only(splits.held_out(0)).localizations) == set(splits.held_out(0))
    assert set(points.localizations) == set(one_fold.data.study_ids)
    other = make_splits(one_fold.data.study_ids, one_fold.data.grades, folds=3, seed=7)
    with pytest.raises(InputError, match="other folds"):
        replace(one_fold, points=points, splits=other)
    with pytest.raises(InputError, match="trained on other data"):
        replace(one_fold, points=points, data=replace(one_fold.data, points={}))
    write_json(localizer / "state.json", {"splits": [list(fold) for fold in splits.folds]})
    assert OutOfFold(localizer).splits == splits
    write_splits(localizer / "splits.json", replace(splits, folds=splits.folds[::-1]))
    with pytest.raises(InputError, match=r"splits\.json: differs from .*state\.json"):
        OutOfFold(localizer)
    write_splits(localizer / "splits.json", splits)
    write_localizations(localizer / "localizations.csv", dict(list(points_of().items())[1:]))
    with pytest.raises(InputError, match="the file was changed"):
        OutOfFold(localizer)


@pytest.mark.parametrize("unmirror", [True, False])
def test_mirrored_series_are_read_as_the_localizer_read_them(one_fold, write_localizer, points_of, tmp_path, unmirror):
    points = OutOfFold(write_localizer(tmp_path, points_of(), unmirror=unmirror))
    assert replace(one_fold, points=points).unmirror is unmirror
    assert one_fold.unmirror


def test_a_request_is_checked_before_anything_is_deleted(
    challenge, splits, localizer, points_of, write_localizer, tmp_path, capsys, monkeypatch
):
    run = tmp_path / "run"
    run.mkdir()
    (run / MARKER).touch()
    (run / "log.csv").touch()
    csv = localizer / "localizations.csv"
    arguments = [str(challenge.root), str(run), "--localizations", str(csv), "--overwrite", "--device", "cpu"]
    arguments += ["--splits", str(localizer / "splits.json")]

    def refused() -> str:
        assert main(arguments) == 1
        assert (run / "log.csv").exists()
        return capsys.readouterr().err

    write_splits(tmp_path / "other.json", make_splits(challenge.study_ids, challenge.grades, folds=3, seed=7))
    arguments[-1] = str(tmp_path / "other.json")
    assert "other folds" in refused()
    arguments[-1] = str(localizer / "splits.json")
    for elsewhere in (localizer / "fold0" / "localizations.csv", localizer / "points.csv"):
        write_localizations(elsewhere, points_of())
        arguments[3] = str(elsewhere)
        assert "expected RUN/localizations.csv of `lumbar localize train`" in refused()
    arguments[3] = str(csv)
    arguments[6] = "99"
    assert "--device 99: there is no such device" in refused()
    arguments[6] = "cpu"
    write_localizer(localizer, {s: x for s, x in points_of().items() if s in splits.held_out(1)})
    assert "fold 0: none of its 4 held-out studies has localizations" in refused()

    calls = []
    monkeypatch.setattr(train_module, "train", lambda request, *_: calls.append(request))
    assert main([*arguments, "--fold", "1"]) == 0
    assert calls[0].measured[Condition.CANAL].in_plane_sd_mm == 1.5  # errors.json beside the points
    write_jitter(tmp_path / "e.json", {c: Jitter(in_plane_sd_mm=0.5, slice_offsets={0: 1.0}) for c in Condition})
    assert main([*arguments, "--fold", "1", "--errors", str(tmp_path / "e.json")]) == 0
    assert calls[1].measured[Condition.CANAL].in_plane_sd_mm == 0.5
    facts = json.loads((localizer / "run.json").read_text())
    (localizer / "run.json").write_text(json.dumps(facts | {"data_fingerprint": "0"}))
    (run / "log.csv").touch()
    assert "other data" in refused()


def test_starting_weights_are_checked_before_anything_is_deleted(challenge, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / MARKER).touch()
    (run / "run.json").write_text("{}")
    arguments = [str(challenge.root), str(run), "--overwrite", "--device", "cpu", "--fold", "0"]
    assert main([*arguments, "--weights", str(tmp_path / "none.pt")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert (run / "run.json").is_file()


@pytest.mark.parametrize("flag", ["--overwrite", "--resume"])
def test_bad_starting_weights_leave_no_run_behind(flag, challenge, tmp_path, capsys):
    run, text, empty = tmp_path / "run", tmp_path / "text.pth", tmp_path / "empty.pt"
    text.write_text("no weights")
    torch.save({"a": torch.zeros(1)}, empty)
    arguments = [str(challenge.root), str(run), "--device", "cpu", "--fold", "0", flag, "--weights"]
    for weights, told in ((text, "holds no weights"), (empty, "cannot be used"), ("imagnet", "did you mean imagenet")):
        assert main([*arguments, str(weights)]) == 1
        assert told in capsys.readouterr().err
        assert not run.exists()


def test_a_full_disk_is_refused_before_anything_is_cut(challenge, tiny_config, tmp_path, monkeypatch):
    job = CacheJob(data=challenge, config=tiny_config.crop, localizations=None, conditions=tuple(Condition))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="GiB are free"):
        build_cache(job, tmp_path / "cache")
