"""Attention maps: the attention weights of a layer, as they are (Vaswani 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.methods.attention.base import AttentionMethod, Flow, inside
from pellucid.methods.attention.finding import Attentions, SelfAttention, same_tokens
from pellucid.methods.attention.seen import Seen
from pellucid.methods.base import Cost
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["AttentionMaps"]

_CITATION = """@inproceedings{vaswani2017,
  author = {Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit, Jakob and Jones, Llion and
            Gomez, Aidan N. and Kaiser, Lukasz and Polosukhin, Illia},
  title = {Attention Is All You Need},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2017}
}"""


@dataclass(frozen=True)
class AttentionMaps(AttentionMethod):
    """Attention weights as they are: what the read token looks at, averaged over the chosen heads and layers.

    ``details["attention"]`` holds the weights themselves, (N, layers, heads, tokens, tokens): row i is what token i
    looks at. They know no class, and not what the tokens that are looked at had taken in from others before.

    Args:
        layers: which attentions, by their numbers in running order, from the end if negative, or "all". Layers that
            the call names (``layer=``) count instead.
        heads: which heads, by their numbers; None: all.
        read: see :class:`AttentionMethod`.
    """

    layers: Sequence[int] | Literal["all"] = (-1,)
    heads: Sequence[int] | None = None

    name: ClassVar[str] = "attention-maps"
    cost: ClassVar[str] = "1 forward + gradient down to the last attention"
    advice: ClassVar[str] = "Looking into a transformer: which tokens a head or a layer attends to, whatever the class."
    citation: ClassVar[str] = _CITATION

    def attentions(self, call: Call, target: Target) -> Attentions:
        """Of the layers that are looked at."""
        found = super().attentions(call, target)
        several = [one for name in call.layers for one in inside(found, name)]
        chosen = several or [found.layers[number] for number in self._numbers(len(found.layers))]
        unique = tuple(sorted(set(chosen), key=lambda one: one.number))
        taken = Attentions(found.total, unique, (), found.inputs)
        same_tokens(taken)
        return taken

    def _numbers(self, count: int) -> list[int]:
        if self.layers == "all":
            return list(range(count))
        wrong = [number for number in self.layers if not isinstance(number, int) or not -count <= number < count]
        if wrong or not len(self.layers):
            raise InputError(
                f"layers={self.layers!r}: expected numbers of attentions between {-count} and {count - 1}, or 'all'; "
                f"got {wrong or 'none'}."
            )
        return [int(number) % count for number in self.layers]

    def flow(self, call: Call, seen: Seen, layers: Sequence[SelfAttention], rows: Tensor) -> Flow:  # noqa: ARG002
        """Rows of the weights."""
        weights = [self._of_heads(seen.weights(layer), layer) for layer in layers]
        maps = [torch.einsum("nq,nhqk->nk", rows.to(one.dtype), one) / one.shape[1] for one in weights]
        single = {layer.number: map_ for layer, map_ in zip(layers, maps, strict=True)}
        heads = {len(one[0]) for one in weights}
        details = {"attention": torch.stack(weights, 1)} if len(heads) == 1 else {}
        return Flow(torch.stack(maps).mean(0), single, details)

    def _of_heads(self, weights: Tensor, layer: SelfAttention) -> Tensor:
        if self.heads is None:
            return weights
        count = weights.shape[1]
        wrong = [head for head in self.heads if not isinstance(head, int) or not -count <= head < count]
        if wrong or not len(self.heads):
            raise InputError(
                f"heads={list(self.heads)}: {layer.name!r} has the heads 0 to {count - 1}, got {wrong or 'none'}."
            )
        return weights[:, [int(head) % count for head in self.heads]]

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One, of which only the last part is differentiated."""
        return Cost(0, 1)
