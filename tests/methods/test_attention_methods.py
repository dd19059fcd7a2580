"""Methods of attention against their papers' equations, written out densely, and against what models say themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid as pl
from pellucid.errors import InputError, ModelError
from pellucid.methods import AttentionMaps, AttentionRelevance, AttentionRollout, LeGrad, method_named
from tests.trace.models import convolutional, numbers, seeded

pytestmark = pytest.mark.core

HEADS, WIDTH, CLASSES = 2, 8, 3


class Block(nn.Module):
    """Pre-norm attention and MLP. ``how``: fused or eager, or eager with samples and heads folded (as torch does)."""

    def __init__(self, how: str, mask: Tensor | None, causal: bool, groups: int) -> None:
        super().__init__()
        self.how, self.causal, self.groups = how, causal, groups
        self.register_buffer("mask", mask)
        small = WIDTH // groups
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, small), nn.Linear(WIDTH, small)
        self.out, self.mlp = (
            nn.Linear(WIDTH, WIDTH),
            nn.Sequential(nn.Linear(WIDTH, 12), nn.GELU(), nn.Linear(12, WIDTH)),
        )
        self.kept: Tensor | None = None

    def attend(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = (part(x).reshape(n, length, -1, WIDTH // HEADS).transpose(1, 2) for part in (self.q, self.k, self.v))
        if self.how == "fused":
            grouped = {"enable_gqa": True} if self.groups > 1 else {}
            y = F.scaled_dot_product_attention(q, k, v, self.mask, is_causal=self.causal, **grouped)
            return self.out(y.transpose(1, 2).reshape(n, length, WIDTH))
        k, v = (part.repeat_interleave(self.groups, 1) for part in (k, v))
        if self.how == "folded":
            q, k, v = (part.reshape(n * HEADS, length, -1) for part in (q, k, v))
        scores = q @ k.transpose(-2, -1) / (WIDTH // HEADS) ** 0.5
        if self.causal:
            scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask, -torch.inf)
        weights = scores.softmax(-1)
        self.kept = weights
        y = (weights @ v).reshape(n, HEADS, length, -1).transpose(1, 2).reshape(n, length, WIDTH)
        return self.out(y)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vision(nn.Module):
    """A vision transformer of two blocks on pictures of 2 x 3 patches."""

    def __init__(self, how: str, pool: str, mask: Tensor | None = None, causal: bool = False, groups: int = 1) -> None:
        super().__init__()
        self.pool = pool
        self.patches = nn.Conv2d(1, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 7, WIDTH))
        self.blocks = nn.ModuleList(Block(how, mask, causal, groups) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head({"token": x[:, 0], "mean": x.mean(1), "last": x[:, -1]}[self.pool])


def made(how: str, pool: str = "token", **settings: Any) -> nn.Module:
    return seeded(lambda: Vision(how, pool, **settings)).double()


X = numbers(2, 1, 8, 12).double()
TARGETS = [0, 2]
MASK = torch.ones(7, 7, dtype=torch.bool)
MASK[:, 4] = False  # no token looks at token 4
KINDS: dict[str, dict[str, Any]] = {
    "token": {},
    "mean": {"pool": "mean"},
    "masked": {"mask": MASK},
    "causal": {"causal": True, "pool": "last"},
    "grouped": {"groups": 2},
}


def dense(kind: str) -> tuple[list[Tensor], list[Tensor], Tensor, nn.Module]:
    """The weights of both blocks, the gradients by them, and the rows that are read."""
    model = made("eager", **KINDS[kind])
    scores = model(X)
    weights = [block.kept for block in model.blocks]  # type: ignore[union-attr]
    gradients = torch.autograd.grad(scores[[0, 1], TARGETS].sum(), weights)
    rows = torch.zeros(2, 7).double()
    pool = KINDS[kind].get("pool", "token")
    if pool == "mean":
        rows += 1 / 7
    else:
        rows[:, 0 if pool == "token" else -1] = 1
    return [one.detach() for one in weights], list(gradients), rows, model


HOW = pytest.mark.parametrize("how", ["fused", "eager", "folded"])
KIND = pytest.mark.parametrize("kind", KINDS)


def found(kind: str, how: str, method: Any, **more: Any) -> pl.Explanation:
    result: pl.Explanation = pl.explain(made(how, **KINDS[kind]), X, target=TARGETS, method=method, **more)
    return result


@HOW
@KIND
def test_attention_maps_are_the_weights(kind: str, how: str) -> None:
    weights, _, rows, _ = dense(kind)
    result = found(kind, how, AttentionMaps(layers="all"))
    assert torch.allclose(result.details["attention"], torch.stack(weights, 1), atol=1e-12)
    expected = torch.stack([torch.einsum("nq,nqk->nk", rows, one.mean(1)) for one in weights]).mean(0)
    assert torch.allclose(result.details["token relevance"], expected, atol=1e-12)
    one = found(kind, how, AttentionMaps(layers=[0], heads=[1]))
    assert torch.allclose(one.details["attention"], weights[0][:, None, 1:2], atol=1e-12)
    assert one.settings["attention layers"] == ["blocks.0"]


@HOW
@KIND
def test_rollout_is_the_papers_product(kind: str, how: str) -> None:
    weights, _, rows, _ = dense(kind)
    eye = torch.eye(7).double()
    first, second = (0.5 * one.mean(1) + 0.5 * eye for one in weights)
    expected = torch.einsum("nq,nqk->nk", rows, second @ first)
    result = found(kind, how, "rollout", layer=["blocks.0", "blocks.1"])
    assert torch.allclose(result.details["token relevance"], expected, atol=1e-12)
    assert torch.allclose(result.layers["blocks.1"], expected[:, 1:].reshape(2, 2, 3), atol=1e-12)
    early = torch.einsum("nq,nqk->nk", rows, first)
    assert torch.allclose(result.layers["blocks.0"], early[:, 1:].reshape(2, 2, 3), atol=1e-12)
    largest = found(kind, how, AttentionRollout(heads="max", residual=0.2))
    first, second = (0.8 * one.amax(1) + 0.2 * eye for one in weights)
    first, second = (one / one.sum(-1, keepdim=True) for one in (first, second))
    assert torch.allclose(
        largest.details["token relevance"], torch.einsum("nq,nqk->nk", rows, second @ first), atol=1e-12
    )


@HOW
@KIND
def test_attention_relevance_is_the_papers_rule(kind: str, how: str) -> None:
    weights, gradients, rows, _ = dense(kind)
    relevance = torch.eye(7).double().expand(2, 7, 7)
    for one, gradient in zip(weights, gradients, strict=True):
        relevance = relevance + (gradient * one).clamp(min=0).mean(1) @ relevance
    expected = torch.einsum("nq,nqk->nk", rows, relevance)
    result = found(kind, how, "attention-relevance")
    assert torch.allclose(result.details["token relevance"], expected, atol=1e-12)
    assert float((expected - rows).abs().max()) > 1e-4


@HOW
@KIND
def test_legrad_is_the_papers_sum(kind: str, how: str) -> None:
    *_, model = dense(kind)
    pool = KINDS[kind].get("pool", "token")
    tokens = torch.cat([model.token.expand(2, -1, -1), model.patches(X).flatten(2).transpose(1, 2)], 1)  # type: ignore
    tokens = (tokens + model.positions).detach()  # type: ignore[operator]
    maps = []
    for block in model.blocks:  # type: ignore[union-attr]
        tokens = block(tokens.detach())
        read = model.norm(tokens)  # type: ignore[operator]
        score = model.head({"token": read[:, 0], "mean": read.mean(1), "last": read[:, -1]}[pool])  # type: ignore
        (gradient,) = torch.autograd.grad(score[[0, 1], TARGETS].sum(), block.kept)
        maps.append(gradient.clamp(min=0).mean((1, 2)))
    result = found(kind, how, "legrad", layer="blocks.0")
    assert torch.allclose(result.details["token relevance"], torch.stack(maps).mean(0), atol=1e-12)
    assert torch.allclose(result.layers["blocks.0"], maps[0][:, 1:].reshape(2, 2, 3), atol=1e-12)


@pytest.mark.parametrize("name", ["attention-maps", "rollout", "attention-relevance", "legrad"])
def test_tokens_become_a_map_over_the_input(name: str) -> None:
    result = found("token", "fused", name)
    map_ = result.details["token relevance"][:, 1:].reshape(2, 1, 2, 3)
    expected = F.interpolate(map_, size=(8, 12), mode="bilinear")[:, 0]
    assert torch.allclose(result.pool("sum"), expected, atol=1e-12)  # type: ignore[arg-type]
    assert result.settings["unit"] == "attention"
    assert result.settings["tokens"] == 7
    half = pl.explain(made("fused").float(), X.float(), target=TARGETS, method=name)
    assert torch.allclose(half.relevance.double(), result.relevance, atol=1e-5)
    assert half.relevance.dtype == torch.float32
    narrow = pl.explain(made("fused").bfloat16(), X.bfloat16(), target=TARGETS, method=name)
    assert narrow.relevance.dtype == torch.bfloat16
    scale = float(result.relevance.abs().max())
    assert torch.allclose(narrow.relevance.double(), result.relevance, atol=0.1 * scale)


def test_the_read_token_is_a_setting() -> None:
    weights, _, _, _ = dense("token")
    last = weights[1].mean(1)
    assert torch.allclose(found("token", "fused", AttentionMaps(read=3)).details["token relevance"], last[:, 3])
    assert torch.allclose(found("token", "fused", AttentionMaps(read=-1)).details["token relevance"], last[:, -1])
    assert torch.allclose(found("token", "fused", AttentionMaps(read="mean")).details["token relevance"], last.mean(1))
    with pytest.raises(InputError, match=r"read=7 is out of range: 'blocks.1' has 7 tokens"):
        found("token", "fused", AttentionMaps(read=7))


def test_layers_are_named_by_the_module_around_the_attention() -> None:
    weights, _, _, _ = dense("token")
    result = found("token", "fused", "attention-maps", layer="blocks.0")
    assert torch.allclose(result.details["attention"][:, 0], weights[0], atol=1e-12)
    assert torch.equal(result.layers["blocks.0"], result.details["token relevance"][:, 1:].reshape(2, 2, 3))
    with pytest.raises(InputError, match=r"'head' holds no attention among the tokens.*blocks.0, blocks.1"):
        found("token", "fused", "rollout", layer="head")


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="Expected heads as 'mean', 'max' or 'min', got 'median'"):
        AttentionRollout(heads="median")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Expected residual as a share between 0 and 1"):
        AttentionRollout(residual=2)
    with pytest.raises(InputError, match=r"layers=\[2\]: expected numbers of attentions between -2 and 1"):
        found("token", "fused", AttentionMaps(layers=[2]))
    with pytest.raises(InputError, match=r"heads=\[5\]: 'blocks.1' has the heads 0 to 1, got \[5\]"):
        found("token", "fused", AttentionMaps(heads=[5]))


@pytest.mark.parametrize("name", ["attention-maps", "rollout", "attention-relevance", "legrad"])
def test_models_without_attention_among_tokens_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"nothing in the model attends .* such as grad-cam"):
        pl.explain(convolutional(), numbers(2, 3, 8, 8), target=0, method=name)
    from pellucid._api import Request

    reason = method_named(name).unfit(Request(convolutional()).call(numbers(2, 3, 8, 8)))
    assert reason is not None
    assert "nothing in the model attends" in reason


def test_attention_over_windows_is_refused_by_name() -> None:
    pytest.importorskip("timm")
    from timm.models.swin_transformer import SwinTransformer

    model = seeded(lambda: SwinTransformer(
        img_size=32, patch_size=4, window_size=4, embed_dim=12, depths=(2, 1), num_heads=(2, 2), num_classes=3
    ))  # fmt: skip
    x = numbers(1, 3, 32, 32)
    with pytest.raises(ModelError, match=r"'layers.0.blocks.1.attn' is over windows.* to 'layers.1.blocks.0.attn'"):
        pl.explain(model, x, target=0, method="rollout")
    last = pl.explain(model, x, target=0, method="attention-maps")  # its only window is the whole grid
    assert last.settings["attention layers"] == ["layers.1.blocks.0.attn"]
    wide = seeded(lambda: SwinTransformer(
        img_size=64, patch_size=4, window_size=4, embed_dim=12, depths=(2, 1), num_heads=(2, 2), num_classes=3
    ))  # fmt: skip
    with pytest.raises(ModelError, match=r"those in .*layers.1.blocks.0.attn are over windows"):
        pl.explain(wide, numbers(1, 3, 64, 64), target=0, method="attention-maps")


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_bert_says_the_same_of_its_attention(implementation: str) -> None:
    pytest.importorskip("transformers")
    from transformers import BertConfig, BertForSequenceClassification

    def build(how: str) -> nn.Module:
        return BertForSequenceClassification(BertConfig(
            hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=32, vocab_size=50,
            num_labels=3, attn_implementation=how
        ))  # fmt: skip

    ids = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    x = {"input_ids": ids, "attention_mask": mask}
    with torch.no_grad():
        own = torch.stack(seeded(lambda: build("eager"))(**x, output_attentions=True).attentions, 1)
    model = seeded(lambda: build(implementation))
    result = pl.explain(model, x, target=0, method=AttentionMaps(layers="all"))
    assert torch.allclose(result.details["attention"], own, atol=1e-6)
    assert result.relevance["input_ids"].shape == (2, 9)
    assert bool((result.relevance["input_ids"][1, 6:] == 0).all())  # what is padded is not looked at
    flow = pl.explain(model, x, target=0, method="rollout").relevance["input_ids"]
    product = torch.eye(9).expand(2, 9, 9)
    for layer in range(3):
        product = (0.5 * own[:, layer].mean(1) + 0.5 * torch.eye(9)) @ product
    assert torch.allclose(flow, product[:, 0], atol=1e-6)  # the class token is read


def test_registers_and_pooling_by_attention_are_understood() -> None:
    pytest.importorskip("timm")
    from timm.models.vision_transformer import VisionTransformer

    def build() -> nn.Module:
        return VisionTransformer(
            img_size=(16, 24), patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=3, reg_tokens=3
        )

    model, x = seeded(build), numbers(2, 3, 16, 24)
    result = pl.explain(model, x, target=0, method=AttentionMaps())
    assert result.settings["tokens"] == 10
    assert torch.allclose(
        result.pool("sum"),  # type: ignore[arg-type]
        F.interpolate(result.details["token relevance"][:, 4:].reshape(2, 1, 2, 3), size=(16, 24), mode="bilinear")[
            :, 0
        ],
        atol=1e-6,
    )
    pooled = seeded(lambda: VisionTransformer(
        img_size=(16, 24), patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=3, class_token=False,
        global_pool="map"
    ))  # fmt: skip
    flow = pl.explain(pooled, x, target=0, method="rollout")
    assert flow.settings["attention layers"] == ["blocks.0.attn", "blocks.1.attn"]
    assert flow.settings["tokens"] == 6
    assert any("Attention in attn_pool is left out" in warning for warning in flow.warnings)


def test_layers_among_different_tokens_cannot_be_followed_through() -> None:
    pytest.importorskip("timm")
    from timm.models.pit import PoolingVisionTransformer

    model = seeded(lambda: PoolingVisionTransformer(
        img_size=32, patch_size=8, stride=4, stem_type="overlap", base_dims=(8, 8), depth=(1, 1), heads=(1, 2),
        mlp_ratio=2, num_classes=3
    ))  # fmt: skip
    x = numbers(1, 3, 32, 32)
    with pytest.raises(ModelError, match=r"among 50 tokens \(7 x 7\) and that in .* among 17 \(4 x 4\)"):
        pl.explain(model, x, target=0, method=AttentionRelevance())
    maps = pl.explain(model, x, target=0, method=AttentionMaps())
    assert maps.settings["tokens"] == 17


def test_legrad_needs_blocks_of_their_own() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.head = nn.Linear(6, 18), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                q, k, v = self.q(x).chunk(3, -1)
                x = x + F.scaled_dot_product_attention(q, k, v)
            return self.head(x.mean(1))

    model = seeded(Bare)
    with pytest.raises(ModelError, match=r"around the attention in .* there is no module that gives tokens"):
        pl.explain(model, numbers(2, 5, 6), target=0, method=LeGrad())
    result = pl.explain(model, numbers(2, 5, 6), target=0, method="rollout")
    assert torch.allclose(result.pool("sum").sum(1), torch.ones(2), atol=1e-6)  # type: ignore[union-attr]
