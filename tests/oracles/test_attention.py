"""The hand-written transformers compute what the library's do; their rules conserve where the papers say so."""

from __future__ import annotations

import pytest
import torch

from tests.oracles import attention, transformer_models

pytest.importorskip("transformers")
PAPERS = ("attn-lrp", "cp-lrp")


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_forwards_agree(paper: str, implementation: str) -> None:
    """transformers' eager attention takes its softmax in float32, whatever the model's precision."""
    rules = attention.Rules(paper, 1e-6)
    close = {"atol": 1e-5, "rtol": 1e-5} if implementation == "eager" else {"atol": 1e-9, "rtol": 1e-9}
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    ids = torch.randint(0, 40, (2, 7), generator=generator)
    keep = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    with torch.no_grad():
        net = transformer_models.vit(implementation)
        torch.testing.assert_close(attention.vit(net, pixels, rules), net(pixels).logits, **close)
        net = transformer_models.bert(implementation)
        words = net.get_input_embeddings()(ids)
        logits = net(input_ids=ids, attention_mask=keep).logits
        torch.testing.assert_close(attention.bert(net, words, keep, rules), logits, **close)
        net = transformer_models.llama(implementation)
        words = net.get_input_embeddings()(ids)
        torch.testing.assert_close(attention.llama(net, words, rules), net(ids).logits, atol=1e-5, rtol=1e-5)


def test_llama_without_scores_conserves() -> None:
    """Llama has no biases: with a constant softmax (CP-LRP) the words' relevance is the logit."""
    net = transformer_models.llama("eager")
    words = net.get_input_embeddings()(torch.randint(0, 40, (3, 6))).detach()
    relevance, logit = attention.relevance(
        words, lambda w: attention.llama(net, w, attention.Rules("cp-lrp"))[:, -1].amax(-1)
    )
    torch.testing.assert_close(relevance.sum((1, 2)), logit, atol=1e-10, rtol=1e-10)


def test_attention_by_hand() -> None:
    """One query, two keys, p = softmax(1, 2): the value gets density p / 2, keys and query a quarter."""
    q = torch.tensor([[[[1.0]]]], dtype=torch.float64, requires_grad=True)
    k = torch.tensor([[[[1.0], [2.0]]]], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([[[[3.0], [5.0]]]], dtype=torch.float64, requires_grad=True)
    out = attention.Rules("attn-lrp").attention(q, k, v, None)
    p = torch.softmax(torch.tensor([1.0, 2.0], dtype=torch.float64), 0)
    dq, dk, dv = torch.autograd.grad(out.sum(), (q, k, v))
    torch.testing.assert_close(dv.flatten(), p / 2)
    slope = float(p[0] * p[1]) * torch.tensor([3.0 - 5.0, 5.0 - 3.0], dtype=torch.float64)
    torch.testing.assert_close(dk.flatten(), slope / 4)
    torch.testing.assert_close(dq.flatten(), (slope * torch.tensor([1.0, 2.0])).sum()[None] / 4)
