"""`keep=` of heads of attention: relevance flows through the chosen ones only, however the attention is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from tests.trace.models import numbers, seeded

pytestmark = pytest.mark.core

HEADS = 4
FORMS = ("fused", "matmul", "einsum", "folded", "module", "module with weights")


class Attention(nn.Module):
    """Self-attention written in several ways."""

    def __init__(self, form: str, width: int = 16) -> None:
        super().__init__()
        self.form = form
        self.inner = nn.MultiheadAttention(width, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.form.startswith("module"):
            return self.inner(x, x, x, need_weights=self.form != "module")[0]
        n, tokens, width = x.shape
        qkv = nn.functional.linear(x, self.inner.in_proj_weight, self.inner.in_proj_bias)
        q, k, v = qkv.view(n, tokens, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        if self.form == "fused":
            out = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q @ k.transpose(-2, -1) / (width // HEADS) ** 0.5).softmax(-1)
            if self.form == "matmul":
                out = weights @ v
            elif self.form == "einsum":
                out = torch.einsum("nhqk,nhkd->nhqd", weights, v)
            else:
                out = torch.bmm(weights.reshape(-1, tokens, tokens), v.reshape(-1, tokens, width // HEADS))
                out = out.view(n, HEADS, tokens, width // HEADS)
        return self.inner.out_proj(out.transpose(1, 2).reshape(n, tokens, width))


class Straight(nn.Module):
    """Everything goes through the attention."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.attn = Attention(form)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attn(self.embed(x)).mean(1))


class SmallViT(nn.Module):
    """Patches, a class token, two blocks with residual paths."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 10, 16))
        layer = nn.TransformerEncoderLayer(16, HEADS, 24, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.positions
        return self.head(self.blocks(tokens)[:, 0])


def made(make: Callable[[], nn.Module]) -> Any:
    return seeded(make).double()


def only(model: nn.Module, x: Tensor, name: str, heads: object, *, composite: str = "attn-lrp") -> Tensor:
    result = pl.explain(model, x, target=1, composite=composite, keep={name: f"heads:{heads}"})
    assert result.ledger is not None
    assert result.ledger.closed(1e-9)
    return result.relevance


@pytest.mark.parametrize("composite", ["attn-lrp", "cp-lrp", "auto"])
@pytest.mark.parametrize("form", FORMS)
def test_all_heads_one_by_one_sum_to_the_whole(form: str, composite: str) -> None:
    model, x = made(lambda: Straight(form)), numbers(3, 6, 5).double()
    whole = pl.explain(model, x, target=1, composite=composite).relevance
    parts = [only(model, x, "attn", head, composite=composite) for head in range(HEADS)]
    assert torch.allclose(sum(parts), whole, rtol=1e-9, atol=1e-12)
    assert all(not torch.allclose(part, parts[0]) for part in parts[1:])
    assert torch.allclose(only(model, x, "attn", "0, 2", composite=composite), parts[0] + parts[2], atol=1e-12)


@pytest.mark.parametrize("form", ["fused", "matmul", "einsum", "folded"])
def test_a_head_is_what_the_others_leave(form: str) -> None:
    """With coefficients for weights and no nonlinearity, CP-LRP is gradient times input, the weights held constant."""
    model, x = made(lambda: Straight(form)), numbers(2, 6, 5).double()
    found = pl.explain(model, x, target=1, composite="cp-lrp", keep={"attn": "heads:1,3"}).relevance
    with torch.no_grad():
        embedded = model.embed(x)
        qkv = nn.functional.linear(embedded, model.attn.inner.in_proj_weight, model.attn.inner.in_proj_bias)
        q, k, _ = qkv.view(2, 6, 3, HEADS, 4).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / 2).softmax(-1)
    leaf = x.clone().requires_grad_()
    projected = nn.functional.linear(model.embed(leaf), model.attn.inner.in_proj_weight[32:])
    heads = weights @ projected.view(2, 6, HEADS, 4).transpose(1, 2)
    heads = torch.stack([heads[:, h] if h in (1, 3) else heads[:, h].detach() for h in range(HEADS)], 1)
    merged = heads.transpose(1, 2).reshape(2, 6, 16)
    score = (merged @ model.attn.inner.out_proj.weight.T).mean(1) @ model.head.weight[1]
    (gradient,) = torch.autograd.grad(score.sum(), leaf)
    assert torch.allclose(found, leaf.detach() * gradient, rtol=1e-9, atol=1e-12)


def test_heads_of_a_vision_transformer_beside_its_residual_path() -> None:
    """What goes around the attention goes with every head: r({0, 1}) = r(0) + r(1) - around."""
    model, x = made(SmallViT), numbers(2, 3, 12, 12).double()
    name = "blocks.layers.1.self_attn"
    whole = pl.explain(model, x, target=1, composite="attn-lrp").relevance
    parts = [only(model, x, name, head) for head in range(HEADS)]
    around = parts[0] + parts[1] - only(model, x, name, "0,1")
    assert torch.allclose(around, parts[2] + parts[3] - only(model, x, name, "2,3"), atol=1e-12)
    assert torch.allclose(sum(parts) - (HEADS - 1) * around, whole, rtol=1e-9, atol=1e-12)
    assert torch.allclose(only(model, x, name, "0,1,2,3"), whole, atol=1e-12)
    assert float((parts[0] - around).abs().max()) > 1e-6


def test_a_sample_does_not_depend_on_its_batch() -> None:
    for form in FORMS:
        model, x = made(lambda form=form: Straight(form)), numbers(3, 6, 5).double()
        together = only(model, x, "attn", 2)
        for n in range(3):
            assert torch.allclose(together[n : n + 1], only(model, x[n : n + 1], "attn", 2), atol=1e-12)


def test_a_block_that_holds_the_attention_names_it_too() -> None:
    model, x = made(SmallViT), numbers(1, 3, 12, 12).double()
    assert torch.equal(only(model, x, "blocks.layers.0", 3), only(model, x, "blocks.layers.0.self_attn", 3))
    both = pl.explain(model, x, target=1, keep={"blocks": "head:3"})
    assert both.settings["keep"] == {"blocks": "head:3"}


@pytest.mark.parametrize(
    ("name", "units", "text"),
    [
        ("attn", "heads:4", r"keep=\{'attn': 'heads:4'\}: the attention in 'attn' has the heads 0 to 3"),
        ("embed", "heads:0", r"keep=\{'embed': 'heads:0'\}: the module holds no attention"),
        ("attn", "all", r"expected numbers of units, such as \[0, 3\], or heads of attention, such as 'heads:0,2'"),
        ("attn", "heads:", "expected numbers of units"),
    ],
)
def test_units_that_are_not_there(name: str, units: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        pl.explain(made(lambda: Straight("fused")), numbers(1, 6, 5).double(), target=0, keep={name: units})
