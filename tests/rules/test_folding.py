"""A batch-norm that alone follows a linear map is part of it for every rule but 0: the dense formula of both as one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.rules import AlphaBeta, Box, Epsilon, Flat, Gamma, WSquare, Zero, ZPlus
from tests.oracles import dense
from tests.rules.helpers import explained

pytestmark = pytest.mark.core

PAIRS = {
    "0": (Zero(), dense.zero),
    "epsilon": (Epsilon(0.1), dense.epsilon(0.1)),
    "gamma": (Gamma(0.25), dense.gamma(0.25)),
    "alpha-beta": (AlphaBeta(2.0, 1.0), dense.alpha_beta(2.0, 1.0)),
    "z+": (ZPlus(), dense.z_plus()),
    "box": (Box(-4.0, 4.0), dense.box(-4.0, 4.0)),
    "w2": (WSquare(), dense.w_square),
    "flat": (Flat(), dense.flat),
}
MAPS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = {
    "conv2d": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)), (2, 2, 4, 5)),
    "conv2d-bare": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4, affine=False)),
        (2, 4, 5, 5),
    ),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3, stride=2), nn.BatchNorm1d(3)), (2, 2, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 2, 2, bias=False), nn.BatchNorm3d(2)), (2, 2, 3, 3, 3)),
    "conv-transpose2d": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), nn.BatchNorm2d(6)),
        (2, 4, 3, 3),
    ),
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (3, 5)),
}


def _made(name: str) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    make, shape = MAPS[name]
    module = make().double().eval()
    norm = module[1]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 1.5)
    x = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        return module, x, torch.randn_like(module(x))


@pytest.mark.parametrize("rule", PAIRS)
@pytest.mark.parametrize("name", MAPS)
def test_folded(name: str, rule: str) -> None:
    ours, theirs = PAIRS[rule]
    module, x, density = _made(name)
    expected, bias = dense.explain(theirs, module, x, density)
    result = explained(module, x, density, ours)
    torch.testing.assert_close(result.relevance, expected, atol=1e-9, rtol=1e-9)
    assert result.ledger is not None
    assert result.ledger.amounts.get("bias", 0.0) == pytest.approx(bias, abs=1e-8)


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "z+"])
def test_not_folded_when_the_map_is_read_elsewhere(rule: str) -> None:
    """Here the output of the map itself is used too: the rule applies to the map alone, the norm stays affine."""
    ours, theirs = PAIRS[rule]
    module, x, density = _made("conv2d")
    layer, norm = module[0], module[1]

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = layer, norm

        def forward(self, x: Tensor) -> Tensor:
            z = self.layer(x)
            return torch.cat([self.norm(z), z], 1)

    twice = torch.cat([density, 2 * density], 1)
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    at_z = density * scale[:, None, None] + 2 * density
    expected, _ = dense.explain(theirs, layer, x, at_z)
    torch.testing.assert_close(explained(Both(), x, twice, ours).relevance, expected, atol=1e-9, rtol=1e-9)


def test_box_of_a_loaded_model_has_the_bounds_of_its_preprocessing() -> None:
    from pellucid.models import LoadedModel, Preprocessing

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 2))
    preprocessing = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    loaded = LoadedModel(net.eval(), None, preprocessing, preprocessing.input_range, "test")
    x = torch.rand(1, 3, 6, 6)
    low, high = (torch.tensor([pair[k] for pair in preprocessing.bounds]) for k in (0, 1))
    ours = pl.explain(loaded, x, target=0, composite="epsilon-gamma-box").relevance
    by_hand = pl.explain(net, x, target=0, composite=pl.composites.epsilon_gamma_box(low, high)).relevance
    default = pl.explain(net, x, target=0, composite="epsilon-gamma-box").relevance
    assert torch.equal(ours, by_hand)
    assert not torch.allclose(ours, default, rtol=1e-2)
