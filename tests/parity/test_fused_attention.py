"""Attention in one fused node gets the rules of attention written out: masks, causality, grouped heads, constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pellucid as pl
from tests.oracles.attention import scaled_gradient
from tests.rules.helpers import weighted

pytestmark = pytest.mark.core

F64 = torch.float64
HEADS, LENGTH, WIDTH = 2, 5, 4


@dataclass(frozen=True)
class Case:
    """How the fused function is called, which of query, key and value follow the input, query heads per key head."""

    live: str = "qkv"
    causal: bool = False
    mask: str = ""
    groups: int = 1


CASES = {
    "plain": Case(),
    "causal": Case(causal=True),
    "added-mask": Case(mask="added"),
    "kept-mask": Case(mask="kept"),
    "grouped-heads": Case(groups=2),
    "constant-query": Case(live="kv"),
    "constant-key": Case(live="qv"),
    "constant-value": Case(live="qk"),
    "query-alone": Case(live="q"),
    "key-alone": Case(live="k"),
    "value-alone": Case(live="v"),
    "causal-constant-value": Case(live="qk", causal=True),
}


def _mask(case: Case) -> Tensor | None:
    generator = torch.Generator().manual_seed(9)
    if case.mask == "added":
        return torch.randn(LENGTH, LENGTH, dtype=F64, generator=generator)
    if case.mask == "kept":
        return (torch.rand(LENGTH, LENGTH, generator=generator) > 0.4) | torch.eye(LENGTH, dtype=torch.bool)
    return None


class Fused(nn.Module):
    """Projections of x (N, L, 6) to heads, then attention, fused or written out with the paper's gradients."""

    def __init__(self, case: Case, *, paper: str | None = None) -> None:
        super().__init__()
        self.case, self.paper = case, paper
        torch.manual_seed(0)
        heads = {"q": HEADS * case.groups, "k": HEADS, "v": HEADS}
        self.project = nn.ModuleDict({name: nn.Linear(6, WIDTH * count) for name, count in heads.items()})
        for name, count in heads.items():
            self.register_buffer(f"constant_{name}", torch.randn(1, count, LENGTH, WIDTH))
        self.double()

    def _operand(self, name: str, x: Tensor) -> Tensor:
        if name not in self.case.live:
            return getattr(self, f"constant_{name}").expand(len(x), -1, -1, -1)
        return self.project[name](x).unflatten(-1, (-1, WIDTH)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._operand(name, x) for name in "qkv")
        case, mask = self.case, _mask(self.case)
        if self.paper is None:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=case.causal, enable_gqa=case.groups > 1
            )
        else:
            out = self._written_out(q, k, v, mask)
        return out.transpose(1, 2).flatten(2)

    def _written_out(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        live = self.case.live
        k, v = (t.repeat_interleave(self.case.groups, 1) for t in (k, v))
        scores = scaled_gradient(q @ k.transpose(-1, -2), 0.5 if "q" in live and "k" in live else 1.0) / math.sqrt(
            WIDTH
        )
        if self.case.causal:
            mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        weights = torch.softmax(scores, -1)
        if self.paper == "cp-lrp" and "v" in live:
            return weights.detach() @ v
        return scaled_gradient(weights @ v, 0.5 if "v" in live and ("q" in live or "k" in live) else 1.0)


@pytest.mark.parametrize("paper", ["attn-lrp", "cp-lrp"])
@pytest.mark.parametrize("name", CASES)
def test_equals_written_out(name: str, paper: str) -> None:
    """Under CP-LRP attention weights are constants as long as there is a value to weigh."""
    case = CASES[name]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, LENGTH, 6, dtype=F64, generator=generator)
    density = torch.randn(2, LENGTH, HEADS * case.groups * WIDTH, dtype=F64, generator=generator)
    leaf = x.clone().requires_grad_()
    y = Fused(case, paper=paper)(leaf)
    torch.testing.assert_close(y, Fused(case)(x), atol=1e-12, rtol=1e-10)
    (gradient,) = torch.autograd.grad((y * density).sum(), leaf)
    result = pl.explain(Fused(case).eval(), x, target=weighted(density), composite=paper)
    torch.testing.assert_close(result.relevance, x * gradient, atol=1e-11, rtol=1e-9)
    assert result.ledger is not None
    assert result.ledger.closed(1e-9), str(result.ledger)


@pytest.mark.parametrize("paper", ["attn-lrp", "cp-lrp"])
def test_multihead_attention_module(paper: str) -> None:
    """`nn.MultiheadAttention` and the layers made of it, in evaluation mode, have a fast path of their own."""
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()

    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, x, x, need_weights=False)[0]

    x = torch.randn(2, 5, 8, dtype=F64)
    density = torch.randn(2, 5, 8, dtype=F64)
    leaf = x.clone().requires_grad_()
    q, k, v = (
        t.unflatten(-1, (2, 4)).transpose(1, 2)
        for t in F.linear(leaf, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    )
    weights = torch.softmax(scaled_gradient(q @ k.transpose(-1, -2), 0.5) / 2, -1)
    mixed = weights.detach() @ v if paper == "cp-lrp" else scaled_gradient(weights @ v, 0.5)
    y = layer.out_proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(y, Self()(x), atol=1e-12, rtol=1e-10)
    (gradient,) = torch.autograd.grad((y * density).sum(), leaf)
    result = pl.explain(Self().eval(), x, target=weighted(density), composite=paper)
    torch.testing.assert_close(result.relevance, x * gradient, atol=1e-11, rtol=1e-9)
    assert result.ledger is not None
    assert result.ledger.closed(1e-9), str(result.ledger)
