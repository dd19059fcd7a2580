"""Attention rollout (Abnar 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.methods.attention.base import AttentionMethod, Flow, Heads, check_heads, over_heads
from pellucid.methods.attention.finding import Attentions, SelfAttention, followable
from pellucid.methods.attention.seen import Seen
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["AttentionRollout"]

_CITATION = """@inproceedings{abnar2020,
  author = {Abnar, Samira and Zuidema, Willem},
  title = {Quantifying Attention Flow in Transformers},
  booktitle = {Annual Meeting of the Association for Computational Linguistics}, year = {2020}
}"""


@dataclass(frozen=True)
class AttentionRollout(AttentionMethod):
    """Attention rollout: attention weights multiplied through the layers, half of each for the residual (Abnar 2020).

    ``A_L ... A_2 A_1`` with ``A_l = (1 - residual) W_l + residual I``, rows scaled to sum to 1 (section 3). It knows no
    class. ``explanation.layers`` holds the map as of the layers that the call names.

    Args:
        heads: how a layer's heads are joined: "mean", as in the paper, "max" or "min".
        residual: the share of the residual connection.
        read: see :class:`AttentionMethod`.
    """

    heads: Heads = "mean"
    residual: float = 0.5

    name: ClassVar[str] = "rollout"
    cost: ClassVar[str] = "1 forward + gradient down to the last attention"
    advice: ClassVar[str] = "Where a transformer takes its information from, whatever the class."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: one of them is out of range.
        """
        check_heads(self.heads)
        if not 0 <= self.residual <= 1:
            raise InputError(f"Expected residual as a share between 0 and 1, got {self.residual!r}.")

    def attentions(self, call: Call, target: Target) -> Attentions:
        """All, among the same tokens."""
        found = super().attentions(call, target)
        followable(found)
        return found

    def flow(self, call: Call, seen: Seen, layers: Sequence[SelfAttention], rows: Tensor) -> Flow:  # noqa: ARG002
        """The product, from the first layer to the last."""
        product: Tensor | None = None
        found: dict[int, Tensor] = {}
        for layer in layers:
            weights = over_heads(seen.weights(layer), self.heads)
            mixed = (1 - self.residual) * weights + self.residual * torch.eye(layer.tokens).to(weights)
            mixed = mixed / mixed.sum(-1, keepdim=True)
            product = mixed if product is None else mixed @ product
            found[layer.number] = torch.einsum("nq,nqk->nk", rows.to(product.dtype), product)
        return Flow(found[layers[-1].number], found)
