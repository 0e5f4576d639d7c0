"""ResNet50 (He et al., 2016, with the stride in the 3 x 3 convolution) as torchvision 0.29 builds it.

Tensors have torchvision's names and start from the same random numbers, which the tests compare. Importing torchvision
takes as long as importing torch, because it brings torch's compiler along, so predictions do without it.
"""

from typing import Final

from torch import Tensor, nn

_EXPANSION: Final = 4
# Channels and residual blocks of each stage.
_STAGES: Final = ((64, 3), (128, 4), (256, 6), (512, 3))
_CLASSES: Final = 1000


class Bottleneck(nn.Module):
    """A residual block: 1 x 1, 3 x 3 and 1 x 1 convolutions beside the identity or a projection."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        outputs = channels * _EXPANSION
        # Built first, as in torchvision, for the order of its random numbers; registered last, for that of its names.
        projection = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else None
        )
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        joined: Tensor = self.relu(out)
        return joined


class ResNet50(nn.Module):
    """Maps [b, 3, rows, columns] to [b, 1000]; every residual block starts as the identity (Goyal et al., 2017)."""

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for number, (channels, blocks) in enumerate(_STAGES, start=1):
            strides = [1 if number == 1 else 2] + [1] * (blocks - 1)
            stage = []
            for stride in strides:
                stage.append(Bottleneck(inputs, channels, stride))
                inputs = channels * _EXPANSION
            setattr(self, f"layer{number}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, _CLASSES)
        if not self.fc.weight.is_meta:  # there random numbers are computed by torch's compiler, which takes two seconds
            self._start()

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        features: Tensor = self.fc(self.avgpool(x).flatten(1))
        return features
