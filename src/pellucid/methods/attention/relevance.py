"""Gradient-weighted attention relevance (Chefer 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.methods.attention.base import AttentionMethod, Flow
from pellucid.methods.attention.finding import Attentions, SelfAttention, followable
from pellucid.methods.attention.seen import Seen
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["AttentionRelevance"]

_CITATION = """@inproceedings{chefer2021,
  author = {Chefer, Hila and Gur, Shir and Wolf, Lior},
  title = {Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers},
  booktitle = {IEEE/CVF International Conference on Computer Vision}, year = {2021}
}

@inproceedings{chefer2021transformer,
  author = {Chefer, Hila and Gur, Shir and Wolf, Lior},
  title = {Transformer Interpretability Beyond Attention Visualization},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition}, year = {2021}
}"""


@dataclass(frozen=True)
class AttentionRelevance(AttentionMethod):
    """Attention weighed by its gradient, gathered through the layers (Chefer 2021, equations 5 and 6).

    ``R = I``, then for every layer ``R <- R + mean_h(ReLU(dy/dA * A)) R``: the rule for self-attention. The row of the
    read token is the map. ``explanation.layers`` holds it as of the layers that the call names.

    Args:
        read: see :class:`AttentionMethod`.
    """

    name: ClassVar[str] = "attention-relevance"
    cost: ClassVar[str] = "1 forward + gradient down to the first attention"
    advice: ClassVar[str] = "What speaks for a class in a transformer, positive evidence only."
    citation: ClassVar[str] = _CITATION

    def attentions(self, call: Call, target: Target) -> Attentions:
        """All, among the same tokens."""
        found = super().attentions(call, target)
        followable(found)
        return found

    def flow(self, call: Call, seen: Seen, layers: Sequence[SelfAttention], rows: Tensor) -> Flow:  # noqa: ARG002
        """The updates, from the first layer to the last."""
        edges = [seen.gradient_edge(layer) for layer in layers]
        gradients = torch.autograd.grad(
            seen.scalars.sum(), edges, retain_graph=True, allow_unused=True
        )  # fmt: skip
        relevance: Tensor | None = None
        found: dict[int, Tensor] = {}
        for layer, gradient in zip(layers, gradients, strict=True):
            weights = seen.weights(layer)
            update = (seen.weights_gradient(layer, gradient) * weights).clamp(min=0).mean(1)
            if relevance is None:
                relevance = torch.eye(layer.tokens).to(update).expand(update.shape)
            relevance = relevance + update @ relevance
            found[layer.number] = torch.einsum("nq,nqk->nk", rows.to(relevance.dtype), relevance)
        return Flow(found[layers[-1].number], found)
