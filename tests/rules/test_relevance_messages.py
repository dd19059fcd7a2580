"""Relevance that does not depend on the value (flat, w2, box, pass) crosses what lies before its layer undivided."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.rules import Box, Flat, WSquare
from tests.oracles import dense
from tests.rules.helpers import explained

pytestmark = pytest.mark.core

RULES = {"flat": (Flat(), dense.flat), "w2": (WSquare(), dense.w_square), "box": (Box(-9, 9), dense.box(-9.0, 9.0))}


def _per_channel(x: Tensor) -> Tensor:
    """As torchvision's Inception does where it undoes a normalisation."""
    parts = [x[:, :1] * 0.4 + 0.1, x[:, 1:2] * 0.5 - 0.2, x[:, 2:] * 0.3 + 0.4]
    return torch.cat(parts, 1)


ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "normalised": lambda x: (x - 0.45) / 0.22,
    "normalised-per-channel": lambda x: (x - torch.tensor([0.4, 0.5, 0.6], dtype=x.dtype)[:, None, None]) / 0.2,
    "inverted": lambda x: 1 - x,
    "channels-apart": _per_channel,
    "activated": lambda x: F.silu(2 * x),
    "written-out": lambda x: x * torch.sigmoid(x),
    "batch-norm": lambda x: F.batch_norm(x, torch.full((3,), 0.4).to(x), torch.full((3,), 0.3).to(x)),
}


class Before(nn.Module):
    """`prepare`, then one convolution."""

    def __init__(self, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.prepare = prepare
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, 3, padding=1).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.prepare(x))


def _input() -> Tensor:
    """Pixels from 0 to 1, one of them where the normalisation gives nearly 0, one exactly 0."""
    x = torch.rand(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 0.45 + 1e-9, 0.0
    return x


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_passes_elementwise_steps(name: str, rule: str) -> None:
    ours, theirs = RULES[rule]
    net, x = Before(ELEMENTWISE[name]), _input()
    density = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected, _ = dense.explain(theirs, net.layer, net.prepare(x), density)
    torch.testing.assert_close(explained(net, x, density, ours).relevance, expected, atol=1e-9, rtol=1e-9)


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "padded": lambda x: F.pad(x, (1, 2, 0, 3)),
    "sliced": lambda x: x[:, :, 1:, 2:],
    "turned": lambda x: x.flip(2).permute(0, 1, 3, 2),
    "joined": lambda x: torch.cat([x[..., 3:], x[..., :3]], 3),
    "pooled": lambda x: F.max_pool2d(x, 2),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MOVES)
def test_moves_with_the_values(name: str, rule: str) -> None:
    ours, theirs = RULES[rule]
    net, x = Before(MOVES[name]), _input()
    leaf = x.clone().requires_grad_()
    moved = net.prepare(leaf)
    generator = torch.Generator().manual_seed(2)
    density = torch.randn(net(x).shape, dtype=torch.float64, generator=generator)
    there, _ = dense.explain(theirs, net.layer, moved.detach(), density)
    (expected,) = torch.autograd.grad(moved, leaf, there)
    torch.testing.assert_close(explained(net, x, density, ours).relevance, expected, atol=1e-9, rtol=1e-9)
