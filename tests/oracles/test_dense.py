"""The dense oracle itself: numbers worked out by hand, and zennit's rules where both mean the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.oracles import dense
from tests.oracles.linear_maps import make

pytestmark = pytest.mark.core

F64 = torch.float64


def _by_hand() -> tuple[dense.Dense, Tensor, Tensor]:
    """One output: messages 2, -3, bias 4, so z = 3; R = 6."""
    w = torch.tensor([[2.0], [3.0]], dtype=F64)
    b = torch.tensor([4.0], dtype=F64)
    return (
        dense.Dense(w, b, torch.ones_like(w), torch.Size([1])),
        torch.tensor([1.0, -1.0], dtype=F64),
        torch.tensor([6.0], dtype=F64),
    )


@pytest.mark.parametrize(
    ("rule", "expected", "bias"),
    [
        (dense.zero, [4.0, -6.0], 8.0),
        (dense.epsilon(1.0), [3.0, -4.5], 6.0),
        (dense.gamma(0.5, 0.0), [6 * 3 / 6, 6 * -3 / 6], 6 * 6 / 6),
        (dense.z_plus(0.0), [2.0, 0.0], 4.0),
        (dense.alpha_beta(2.0, 1.0, 0.0), [4.0, -6.0], 8.0),
        (dense.alpha_beta(1.25, 0.25, 0.0), [2.5, -1.5], 5.0),
        (dense.box(-1.0, 1.0, 0.0), [6 * 4 / 4, 6 * 0 / 4], 0.0),
        (dense.w_square, [6 * 4 / 13, 6 * 9 / 13], 0.0),
        (dense.flat, [3.0, 3.0], 0.0),
    ],
)
def test_worked_example(rule: dense.DenseRule, expected: list[float], bias: float) -> None:
    relevance, share = rule(*_by_hand())
    torch.testing.assert_close(relevance, torch.tensor(expected, dtype=F64))
    assert share == pytest.approx(bias)


def test_gamma_negative_output() -> None:
    """Messages 2, -3, bias -4: z = -5, so the negative ones count 1 + g times; 2019's printed form differs there."""
    oracle, a, r = _by_hand()
    oracle = dense.Dense(oracle.w, -oracle.b, oracle.connected, oracle.out_shape)
    relevance, share = dense.gamma(1.0, 0.0)(oracle, a, r)
    torch.testing.assert_close(relevance, 6 * torch.tensor([2.0, -6.0], dtype=F64) / -12)
    assert share == pytest.approx(6 * -8 / -12)
    a = a.abs()
    w = torch.tensor([[2.0], [-3.0]], dtype=F64)
    oracle = dense.Dense(w, torch.tensor([4.0], dtype=F64), torch.ones_like(w), torch.Size([1]))
    torch.testing.assert_close(dense.gamma(0.5, 0.0)(oracle, a, r), dense.gamma_montavon(0.5, 0.0)(oracle, a, r))


def test_every_rule_conserves_with_its_bias() -> None:
    oracle, a, r = _by_hand()
    for rule in (
        dense.zero,
        dense.gamma(0.5, 0.0),
        dense.alpha_beta(2.0, 1.0, 0.0),
        dense.box(-1.0, 1.0, 0.0),
        dense.flat,
    ):
        relevance, share = rule(oracle, a, r)
        assert float(relevance.sum()) + share == pytest.approx(6.0)


ZENNIT_MAPS = [
    "linear",
    "linear-3d",
    "conv1d-strided-dilated",
    "conv2d-padded",
    "conv2d-grouped",
    "conv3d",
    "conv-transpose2d",
]


@pytest.mark.parametrize("name", ZENNIT_MAPS)
def test_agrees_with_zennit(name: str) -> None:
    """zennit 0.5.1 has the same messages; its w2 gives the bias b^2, the paper does not: it runs without bias."""
    rules = pytest.importorskip("zennit.rules")
    pairs = [
        (rules.Epsilon(1e-6), dense.epsilon()),
        (rules.Gamma(0.25), dense.gamma()),
        (rules.ZPlus(), dense.z_plus()),
        (rules.AlphaBeta(2, 1), dense.alpha_beta()),
        (rules.AlphaBeta(1.25, 0.25), dense.alpha_beta(1.25, 0.25)),
        (rules.ZBox(-3.0, 3.0), dense.box(-3.0, 3.0)),
        (rules.WSquare(stabilizer=0.0, zero_params="bias"), dense.w_square),
        (rules.Flat(stabilizer=0.0), dense.flat),
    ]
    module, x, density = make(name)
    for theirs, ours in pairs:
        torch.testing.assert_close(
            _zennit(theirs, module, x, density), dense.explain(ours, module, x, density)[0], atol=1e-10, rtol=1e-10
        )


def _zennit(rule: object, module: nn.Module, x: Tensor, density: Tensor) -> Tensor:
    hook = rule.copy()  # type: ignore[attr-defined]
    handles = hook.register(module)
    leaf = x.clone().requires_grad_()
    y = module(leaf)
    (relevance,) = torch.autograd.grad(y, leaf, grad_outputs=(y * density).detach())
    handles.remove()
    return relevance.detach()
