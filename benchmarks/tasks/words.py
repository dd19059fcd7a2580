"""Methods on pairs of sentences: relevance of each token for the similarity of a sentence to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.tasks import sentences

PAD, CLS, SEP, MASK = 0, 101, 102, 103


@dataclass(frozen=True)
class WordQuery:
    """One sentence and the direction (384,) along which its embedding is read: the scalar is embedding @ direction."""

    inputs: dict[str, Tensor]
    direction: Tensor

    def scalar(self, embedding: Tensor) -> Tensor:
        """Shape (batch,)."""
        return embedding @ self.direction

    def of_ids(self, ids: Tensor) -> Tensor:
        """The scalar of token ids, shape (batch, tokens) -> (batch,)."""
        return self.scalar(sentences.encoder()(ids, self.inputs["attention_mask"].expand(len(ids), -1)))

    def of_vectors(self, vectors: Tensor) -> Tensor:
        """The scalar of word vectors, shape (batch, tokens, 384) -> (batch,)."""
        mask = self.inputs["attention_mask"].expand(len(vectors), -1)
        return self.scalar(sentences.encoder()(None, mask, vectors))

    def vectors(self, ids: Tensor) -> Tensor:
        """Word vectors of token ids."""
        return sentences.encoder().bert.get_input_embeddings()(ids).detach()


WordMethod = Callable[[WordQuery], Tensor]


def pellucid(composite: object) -> WordMethod:
    """Layer-wise relevance propagation by Pellucid, from the token ids."""

    def run(query: WordQuery) -> Tensor:
        import pellucid as pl

        encoder = sentences.encoder()
        relevance = pl.explain(encoder, query.inputs, target=query.scalar, composite=composite).relevance
        assert isinstance(relevance, dict)
        return relevance["input_ids"][0]

    return run


def input_x_gradient(query: WordQuery) -> Tensor:
    """Word vector times gradient."""
    vectors = query.vectors(query.inputs["input_ids"]).requires_grad_()
    return (torch.autograd.grad(query.of_vectors(vectors).sum(), vectors)[0] * vectors).detach().sum(2)[0]


def integrated_gradients(query: WordQuery) -> Tensor:
    """Captum's integrated gradients from the padding token's vector, special tokens kept."""
    from captum.attr import IntegratedGradients

    ids = query.inputs["input_ids"]
    special = (ids == CLS) | (ids == SEP)
    baseline = torch.where(special, ids, torch.full_like(ids, PAD))
    method = IntegratedGradients(query.of_vectors)
    return method.attribute(query.vectors(ids), query.vectors(baseline), n_steps=32)[0].detach().sum(1)


@torch.no_grad()
def occlusion(query: WordQuery) -> Tensor:
    """What the scalar loses when a token's word vector is set to zero."""
    vectors = query.vectors(query.inputs["input_ids"])
    without = vectors.expand(vectors.shape[1], -1, -1).clone()
    without[torch.arange(len(without)), torch.arange(len(without))] = 0
    return query.of_vectors(vectors) - query.of_vectors(without)


@torch.no_grad()
def masking(query: WordQuery) -> Tensor:
    """What the scalar loses when a token becomes the mask token."""
    ids = query.inputs["input_ids"]
    without = ids.expand(ids.shape[1], -1).clone()
    without.fill_diagonal_(MASK)
    return query.of_ids(ids) - query.of_ids(without)


def zennit_epsilon(query: WordQuery) -> Tensor:
    """zennit's epsilon rule on every linear layer, all else its gradient."""
    from zennit.attribution import Gradient
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = sentences.encoder()

        def forward(self, vectors: Tensor) -> Tensor:
            return query.of_vectors(vectors)

    vectors = query.vectors(query.inputs["input_ids"])
    with Gradient(Wrapped(), LayerMapComposite([(torch.nn.Linear, Epsilon())])) as attributor:
        _, relevance = attributor(vectors, lambda output: output.detach())
    return relevance.detach().sum(2)[0]


def autolrp(query: WordQuery) -> Tensor:
    """autoLRP's AttnLRP table from the word vectors."""
    import autolrp as library

    vectors = library.tensor(query.vectors(query.inputs["input_ids"]))
    config = library.LRPConfig(rule={**library.BASE, **library.ATTNLRP})
    query.of_vectors(vectors).sum().lrp(config=config)
    return torch.as_tensor(vectors.relevance).detach().sum(2)[0]


def random(query: WordQuery) -> Tensor:
    """Noise: what chance scores."""
    return torch.randn(
        query.inputs["input_ids"].shape[1],
        generator=torch.Generator().manual_seed(int(query.inputs["input_ids"].sum())),
    )


COMPOSITES = ("auto", "epsilon", "attn-lrp", "cp-lrp")
METHODS: dict[str, WordMethod] = {
    "random": random,
    **{f"pellucid {name}": pellucid(name) for name in COMPOSITES},
    "zennit epsilon": zennit_epsilon,
    "autolrp": autolrp,
    "input x gradient": input_x_gradient,
    "captum integrated gradients": integrated_gradients,
    "occlusion, zero vector": occlusion,
    "occlusion, mask token": masking,
}
