"""Norms with frozen statistics: the deviation is a constant, centring is linear; the shift goes to the ledger."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.helpers import Headed, explained

pytestmark = pytest.mark.core

SHAPE = (2, 6, 5)


class HandWrittenRMS(nn.Module):
    """As Llama writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


class HandWrittenLayerNorm(nn.Module):
    """Mean and standard deviation spelled out, with sqrt and a division."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return self.weight * centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) + self.bias


def _frozen(dims: tuple[int, ...], *, centre: bool, channels: int, groups: int = 1) -> Callable[..., Tensor]:
    """x -> normalised, its deviation detached; statistics over `dims` of x split into channel groups."""

    def norm(x: Tensor, module: nn.Module) -> Tensor:
        shape = x.shape
        grouped = x.unflatten(1, (groups, -1)) if groups > 1 else x
        centred = grouped - grouped.mean(dims, keepdim=True) if centre else grouped
        deviation = (centred.square().mean(dims, keepdim=True) + 1e-5).sqrt().detach()
        out = (centred / deviation).reshape(shape)
        side = [1] * x.dim()
        side[channels] = -1
        if getattr(module, "weight", None) is not None:
            out = out * module.weight.reshape(side)
        if getattr(module, "bias", None) is not None:
            out = out + module.bias.reshape(side)
        return out

    return norm


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "layer": (lambda: nn.LayerNorm(5), _frozen((-1,), centre=True, channels=-1)),
    "layer-plain": (lambda: nn.LayerNorm(5, elementwise_affine=False), _frozen((-1,), centre=True, channels=-1)),
    "layer-no-bias": (lambda: nn.LayerNorm(5, bias=False), _frozen((-1,), centre=True, channels=-1)),
    "layer-in-full": (HandWrittenLayerNorm, _frozen((-1,), centre=True, channels=-1)),
    "rms": (lambda: nn.RMSNorm(5, eps=1e-5), _frozen((-1,), centre=False, channels=-1)),
    "rms-in-full": (HandWrittenRMS, _frozen((-1,), centre=False, channels=-1)),
    "group": (lambda: nn.GroupNorm(3, 6), _frozen((2, 3), centre=True, channels=1, groups=3)),
    "group-one": (lambda: nn.GroupNorm(1, 6), _frozen((1, 2), centre=True, channels=1)),
    "instance": (lambda: nn.InstanceNorm1d(6), _frozen((2,), centre=True, channels=1)),
    "instance-affine": (lambda: nn.InstanceNorm1d(6, affine=True), _frozen((2,), centre=True, channels=1)),
}


def _drawn(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.5, 1.0)
    return module.double().eval()


@pytest.mark.parametrize("name", CASES)
def test_frozen_statistics(name: str) -> None:
    make, formula = CASES[name]
    module = _drawn(make())
    net = Headed(module, 5).double()
    x = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2 + 1
    density = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    result = explained(net, x, density)

    leaf = x.clone().requires_grad_()
    out = formula(leaf, module)
    torch.testing.assert_close(out, module(x), atol=1e-10, rtol=1e-10)
    (gradient,) = torch.autograd.grad((net.head(out) * density).sum(), leaf)
    torch.testing.assert_close(result.relevance, x * gradient, atol=1e-10, rtol=1e-10)
    shift = getattr(module, "bias", None)
    if shift is not None:
        side = (1, -1, 1) if name.startswith(("group", "instance")) else (1, 1, -1)
        taken = float((density @ net.head.weight * shift.reshape(side)).sum().detach())
        assert result.ledger is not None
        assert result.ledger.amounts["bias"] == pytest.approx(taken, abs=1e-9)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_affine(affine: bool) -> None:
    module = _drawn(nn.BatchNorm1d(6, affine=affine))
    generator = torch.Generator().manual_seed(4)
    module.running_mean.copy_(torch.randn(6, generator=generator))
    module.running_var.copy_(torch.rand(6, generator=generator) + 0.5)
    net = Headed(module, 5).double()
    x = torch.randn(SHAPE, dtype=torch.float64, generator=generator)
    density = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator)
    upstream = density @ net.head.weight.detach()
    weight = module.weight.detach() if affine else torch.ones(6, dtype=torch.float64)
    bias = module.bias.detach() if affine else torch.zeros(6, dtype=torch.float64)
    scale = weight / (module.running_var + module.eps).sqrt()
    result = explained(net, x, density)
    torch.testing.assert_close(result.relevance, x * scale[:, None] * upstream, atol=1e-10, rtol=1e-10)
    taken = float(((bias - scale * module.running_mean)[:, None] * upstream).sum())
    assert result.ledger is not None
    assert result.ledger.amounts["bias"] == pytest.approx(taken, abs=1e-9)


def test_unit_length() -> None:
    """F.normalize: the length is a constant, so relevance is the direction's."""
    net = Headed(lambda x: F.normalize(x, dim=-1), 5).double()
    x = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    density = torch.ones(2, 3, dtype=torch.float64)
    upstream = density @ net.head.weight.detach()
    expected = x / x.norm(dim=-1, keepdim=True) * upstream
    torch.testing.assert_close(explained(net, x, density).relevance, expected, atol=1e-10, rtol=1e-10)
