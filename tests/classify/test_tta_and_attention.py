"""Test-time augmentation, attention over slices, and occlusion maps."""

import numpy as np
import torch
from torch import nn

from classify.calibrate import IDENTITY
from classify.config import ClassifyConfig, CropConfig, ModelConfig
from classify.network.augment import center, standardise
from classify.network.checkpoint import ModelCard
from classify.network.model import FAMILIES, SliceAttention, build_model, empty_model
from classify.network.tta import network_inputs
from classify.occlusion import occlusion_map
from shared.labels import FINDINGS, Condition, Finding, Level, Side

CROP = CropConfig(size_px=32, slices=3, margin_px=8, margin_slices=0)
CANAL = Finding(condition=Condition.CANAL, side=None, level=Level.L1_L2).index
FORAMEN = Finding(condition=Condition.FORAMINAL, side=Side.LEFT, level=Level.L1_L2).index


def test_variants_surround_the_centre_and_mirror_the_canal_alone():
    patches = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 48, 48)).astype(np.uint8))
    findings = np.array([CANAL, FORAMEN])
    plain = network_inputs(patches, findings, CROP, tta=False)
    variants = network_inputs(patches, findings, CROP, tta=True)
    assert len(plain) == 1
    assert len(variants) == 10
    assert torch.equal(plain[0], standardise(center(patches, CROP)))
    assert torch.allclose(variants[0], plain[0], atol=1e-3)
    mirrored = variants[-1]
    assert torch.allclose(mirrored[0], plain[0][0].flip(0), atol=1e-3)
    assert torch.allclose(mirrored[1], plain[0][1], atol=1e-3)
    assert all(not torch.allclose(v, plain[0], atol=0.1) for v in variants[1:-1])


def test_attention_starts_as_the_mean_and_learns_which_slice_counts():
    pool = SliceAttention(3, 16)
    features = torch.randn(2, 3, 16)
    family = torch.tensor([FAMILIES.index(Condition.CANAL), FAMILIES.index(Condition.FORAMINAL)])
    assert torch.allclose(pool(features, family), features.mean(1), atol=1e-5)
    with torch.no_grad():
        pool.position_bias[family[0], 1] = 20
    assert torch.allclose(pool(features, family)[0], features[0, 1], atol=1e-3)
    assert torch.allclose(pool(features, family)[1], features[1].mean(0), atol=1e-5)


def test_a_network_with_attention_trains_and_loads_like_the_other():
    config = ModelConfig(slices_as="attention")
    torch.manual_seed(0)
    model = build_model(config, slices=3, prior=np.full((len(FINDINGS), 3), 1 / 3))
    x, family, level = torch.randn(2, 3, 32, 32), torch.tensor([0, 2]), torch.tensor([1, 4])
    logits = model(x, family, level)
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert model.attention.position_bias.grad is not None
    again = empty_model(config, slices=3)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x, family, level), model.eval()(x, family, level))


class _CornerReader(nn.Module):
    """Says Severe when the top left corner is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor, family: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        corner = x[:, :, :8, :8].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(corner), torch.zeros_like(corner), self.scale * corner], 1)


def test_occlusion_points_at_what_the_network_reads():
    card = ModelCard(
        config=ClassifyConfig(), families=FAMILIES, prior=np.full((25, 3), 1 / 3),
        calibration=dict.fromkeys(FAMILIES, IDENTITY), fold=0, data_fingerprint="", held_out_points="annotated",
    )  # fmt: skip
    crop = np.random.default_rng(0).integers(0, 160, (3, 32, 32)).astype(np.uint8)
    crop[:, :8, :8] = 220
    drop = occlusion_map(card, _CornerReader(), crop, CANAL)  # type: ignore[arg-type]
    assert drop.shape == (32, 32)
    row, column = np.unravel_index(drop.argmax(), drop.shape)
    assert row < 10
    assert column < 10
    assert drop.max() > 0.3
    assert abs(drop[-4:, -4:]).max() < 0.2 * drop.max()
