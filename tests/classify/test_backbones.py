"""Other trunks than ResNet50, for experiments: every family fits our heads, our files and torchvision's."""

import json

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from classify.calibrate import IDENTITY
from classify.config import ClassifyConfig
from classify.network.checkpoint import (
    MODEL_FILE,
    WEIGHTS_FILE,
    ModelCard,
    load_card,
    load_model,
    save_card,
    save_weights,
)
from classify.network.model import FAMILIES, build_model, empty_model
from shared.runtime.errors import InputError

PRIOR = np.full((25, 3), 1 / 3)


def card_of(backbone: str) -> ModelCard:
    config = ClassifyConfig.load(None, (f"model.backbone={backbone}", "crop.slices=5"))
    return ModelCard(
        config=config, families=FAMILIES, prior=PRIOR, calibration=dict.fromkeys(FAMILIES, IDENTITY), fold=0,
        data_fingerprint="0", held_out_points="annotated",
    )  # fmt: skip


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_b0", "mobilenet_v3_large"])
def test_a_trunk_by_name_starts_from_torchvisions_file_and_comes_back_from_ours(backbone, tmp_path):
    card = card_of(backbone)
    theirs = get_model(backbone, weights=None)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    start = card.config.model.model_copy(update={"weights": str(tmp_path / "theirs.pt")})
    model = build_model(start, slices=5, prior=PRIOR)
    names = dict(model.trunk.named_parameters())
    last = [name for name in theirs.state_dict() if name in names][-1]
    assert torch.equal(names[last], theirs.get_parameter(last))
    x, family, level = torch.randn(2, 5, 32, 32), torch.tensor([0, 2]), torch.tensor([1, 4])
    logits = model(x, family, level)
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    save_weights(tmp_path / WEIGHTS_FILE, model.state_dict())
    save_card(tmp_path, card)
    read = load_card(tmp_path)
    assert read.config.model.backbone == backbone
    with torch.no_grad():
        assert torch.equal(
            load_model(tmp_path, read, torch.device("cpu"))(x, family, level), model.eval()(x, family, level)
        )


def test_a_backbone_that_is_not_on_the_list_is_refused_and_the_list_is_told(tmp_path):
    with pytest.raises(InputError, match=r"model\.backbone = 'vit_h_14': .*'resnet18'.*'convnext_tiny'"):
        ClassifyConfig.load(None, ("model.backbone=vit_h_14",))
    save_card(tmp_path, card_of("resnet18"))
    value = json.loads((tmp_path / MODEL_FILE).read_text())
    value["config"]["model"]["backbone"] = "vit_h_14"
    (tmp_path / MODEL_FILE).write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"config\.model\.backbone: expected 'resnet18'"):
        load_card(tmp_path)


def test_cards_that_name_no_backbone_are_of_resnet50(tmp_path):
    save_card(tmp_path, card_of("resnet50"))
    value = json.loads((tmp_path / MODEL_FILE).read_text())
    del value["config"]["model"]["backbone"]
    (tmp_path / MODEL_FILE).write_text(json.dumps(value))
    assert load_card(tmp_path).config.model.backbone == "resnet50"
    network = empty_model(load_card(tmp_path).config.model, slices=5)
    assert network.heads["canal"].in_features == 2048
    # The weights of one backbone are none for another.
    save_weights(tmp_path / WEIGHTS_FILE, network.state_dict())
    with pytest.raises(InputError, match=WEIGHTS_FILE):
        load_model(tmp_path, card_of("resnet18"), torch.device("cpu"))
