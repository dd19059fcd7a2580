"""Networks with random weights whose signals stay of order 1, biases and batch statistics in place, float64, eval."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def condition(model: nn.Module, *, seed: int = 0, bias: float = 0.1) -> nn.Module:
    """Draw weights by fan-in, biases of size `bias`, random batch statistics; batch-norm's epsilon becomes 0.

    zennit's merge leaves an identity batch-norm behind that divides by sqrt(1 + eps) once more; without eps both agree.
    """
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()

    def normal(p: Tensor, std: float, mean: float = 0.0) -> None:
        p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * std + mean)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eps = 0.0
                normal(module.weight, 0.2, 0.8)
                normal(module.bias, bias)
                normal(module.running_mean, bias)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
            elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                fan_in = module.weight[0].numel()
                normal(module.weight, (2.0 / fan_in) ** 0.5)
                if module.bias is not None:
                    normal(module.bias, bias)
    return model


def _narrow_head(model: nn.Module) -> nn.Module:
    """VGG with 32 units instead of 4096 in its head: the same layers at a hundredth of the memory."""
    model.classifier = nn.Sequential(
        nn.Linear(512 * 49, 32),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(32, 32),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(32, 10),
    )
    return model


def vgg11(*, batch_norm: bool = False) -> nn.Module:
    pytest.importorskip("torchvision")
    from torchvision.models import vgg

    return _narrow_head(
        vgg.VGG(vgg.make_layers(vgg.cfgs["A"], batch_norm=batch_norm), num_classes=1, init_weights=False)
    )


def resnet18() -> nn.Module:
    pytest.importorskip("torchvision")
    from torchvision.models import resnet18 as build

    return build(weights=None, num_classes=10)


def squeezenet() -> nn.Module:
    pytest.importorskip("torchvision")
    from torchvision.models import squeezenet1_1

    return squeezenet1_1(weights=None, num_classes=10)


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, groups=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 3 * 3, 20),
        nn.ReLU(),
        nn.Linear(20, 5),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "vgg11": vgg11,
    "vgg11-bn": lambda: vgg11(batch_norm=True),
    "resnet18": resnet18,
    "squeezenet": squeezenet,
    "small-cnn": small_cnn,
}


def model(name: str, *, seed: int = 0, bias: float = 0.1) -> nn.Module:
    torch.manual_seed(seed)
    return condition(MODELS[name](), seed=seed, bias=bias)


def images(count: int = 1, size: int = 32, *, seed: int = 1) -> Tensor:
    """Images (count, 3, size, size) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator, dtype=torch.float64) * 2 - 1
