"""AttnLRP and CP-LRP equal their formulas on a ViT, a BERT and a Llama, with fused and with written-out attention.

The formulas are the hand-written forwards of `tests.oracles.attention`. transformers' eager attention takes its softmax
in float32 whatever the model's precision, hence the wider tolerance there.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import pellucid as pl
from tests.oracles import attention, transformer_models

pytest.importorskip("transformers")

PAPERS = ("attn-lrp", "cp-lrp")
IMPLEMENTATIONS = ("sdpa", "eager")
EPSILON = 0.0


def _close(ours: Tensor, theirs: Tensor, implementation: str, tolerance: float = 1e-9) -> None:
    scale = float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, atol=(1e-5 if implementation == "eager" else tolerance) * scale, rtol=0.0)


def _closed(result: Any, implementation: str, tolerance: float = 1e-9) -> None:
    assert result.ledger.closed(1e-5 if implementation == "eager" else tolerance), str(result.ledger)


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_vit(paper: str, implementation: str) -> None:
    net = transformer_models.vit(implementation)
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rules = attention.Rules(paper, EPSILON)
    theirs, logit = attention.relevance(pixels, lambda p: attention.vit(net, p, rules)[:, 2])
    result = pl.explain(net, pixels, target=2, composite=paper)
    _close(result.output, logit, implementation)
    _close(result.relevance, theirs, implementation)
    _closed(result, implementation)


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_bert(paper: str, implementation: str) -> None:
    net = transformer_models.bert(implementation)
    ids = torch.randint(0, 40, (2, 7), generator=torch.Generator().manual_seed(2))
    keep = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    rules = attention.Rules(paper, EPSILON)
    words = net.get_input_embeddings()(ids).detach()
    theirs, _ = attention.relevance(words, lambda w: attention.bert(net, w, keep, rules)[:, 1])
    result = pl.explain(net, {"input_ids": ids, "attention_mask": keep}, target=1, composite=paper)
    _close(result.relevance["input_ids"], theirs.sum(-1), implementation)
    _closed(result, implementation)
    # Positions and segments are added to the words, so they meet the words' density.
    density = theirs / words
    state = net.state_dict()
    positions = state["bert.embeddings.position_embeddings.weight"][:7]
    segments = state["bert.embeddings.token_type_embeddings.weight"][0]
    booked = result.ledger.modules("embedding")
    taken = {module: float((part * density).sum()) for module, part in [("position", positions), ("type", segments)]}
    for part, amount in taken.items():
        (found,) = (value for module, value in booked.items() if part in module)
        assert found == pytest.approx(amount, rel=1e-4 if implementation == "eager" else 1e-8)


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_llama(paper: str, implementation: str) -> None:
    """transformers' Llama takes its norms and rotary angles in float32, whatever the model's precision."""
    net = transformer_models.llama(implementation)
    ids = torch.randint(0, 40, (2, 7), generator=torch.Generator().manual_seed(3))
    rules = attention.Rules(paper, EPSILON)
    words = net.get_input_embeddings()(ids).detach()
    theirs, _ = attention.relevance(words, lambda w: attention.llama(net, w, rules)[:, -1, 5])
    result = pl.explain(net, {"input_ids": ids}, target=lambda logits: logits[:, -1, 5], composite=paper)
    _close(result.relevance["input_ids"], theirs.sum(-1), implementation, 1e-5)
    _closed(result, implementation, 1e-6)


@pytest.mark.parametrize("paper", PAPERS)
def test_embeddings_given_as_input(paper: str) -> None:
    """The same relevance, embedding dimension by embedding dimension."""
    net = transformer_models.bert("sdpa")
    words = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    keep = torch.ones(2, 6)
    rules = attention.Rules(paper, EPSILON)
    theirs, _ = attention.relevance(words, lambda w: attention.bert(net, w, keep, rules)[:, 0])
    result = pl.explain(net, {"inputs_embeds": words}, target=0, composite=paper)
    _close(result.relevance["inputs_embeds"], theirs, "sdpa")


@pytest.mark.parametrize("paper", PAPERS)
def test_fused_equals_unfused(paper: str) -> None:
    """The fused node's density with its halves is the written-out rules; only rounding differs."""
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fused, unfused = (
        pl.explain(transformer_models.vit(implementation), pixels, target=2, composite=paper)
        for implementation in IMPLEMENTATIONS
    )
    _close(fused.relevance, unfused.relevance, "eager")
    softmax = [sum(v for k, v in r.ledger.amounts.items() if k.startswith("softmax")) for r in (fused, unfused)]
    assert softmax[0] == pytest.approx(softmax[1], rel=1e-4, abs=1e-4)
