"""One recorded pass, and the attention weights in it: kept by its graph, or made again where a kernel keeps none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from pellucid.engine.graph import Edge, Graph, build_graph
from pellucid.engine.passes import Pass, Scalar
from pellucid.engine.point import Point
from pellucid.engine.private import field, saved
from pellucid.errors import ModelError
from pellucid.methods.attention.finding import Attentions, SelfAttention
from pellucid.methods.positions.attending import Attending, attending_nodes
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Seen", "see"]


@dataclass(frozen=True)
class Seen:
    """A forward whose graph begins at the explained inputs.

    Args:
        done: the forward.
        scalar: what is explained.
        scalars: (N,), with their graph.
        graph: behind the scalars.
        attending: all attentions in it.
    """

    done: Pass
    scalar: Scalar
    scalars: Tensor
    graph: Graph
    attending: Sequence[Attending]

    def weights(self, layer: SelfAttention) -> Tensor:
        """The attention weights (N, heads, tokens, tokens), at least float32.

        Raises:
            ModelError: neither the weights nor what they are computed from was kept.
        """
        one = self.attending[layer.number]
        kept = saved(self.graph.nodes[one.weights], "result") if not one.fused else self._fused(one)
        if kept is None:
            raise ModelError(f"The attention weights in {layer.name!r} were overwritten in place after they were used.")
        return _heads(kept.detach(), layer)

    def output_edge(self, layer: SelfAttention) -> GradientEdge:
        """Where the attention's result is in the graph."""
        return self._edge((self.attending[layer.number].product, 0))

    def gradient_edge(self, layer: SelfAttention) -> GradientEdge:
        """Where to take a gradient from which :meth:`weights_gradient` makes that by the attention weights."""
        one = self.attending[layer.number]
        return self._edge((one.weights, 0))

    def weights_gradient(self, layer: SelfAttention, found: Tensor | None) -> Tensor:
        """The gradient by the attention weights (N, heads, tokens, tokens), from that at :meth:`gradient_edge`.

        Of a fused kernel's result ``O = A V`` it is ``dO V^T``.
        """
        one = self.attending[layer.number]
        node = self.graph.nodes[one.weights]
        if found is None:
            return torch.zeros_like(self.weights(layer))
        if not one.fused:
            return _heads(found, layer)
        value = saved(node, "value")
        assert value is not None
        return _wide(found) @ _wide(_for_heads(value.detach(), found.shape[-3])).transpose(-2, -1)

    def rows(self, layer: SelfAttention) -> Tensor:
        """(N, tokens): tokens of the layer from which the scalar reads, uniformly weighed, by its gradient there."""
        (found,) = torch.autograd.grad(
            self.scalars.sum(), [self.output_edge(layer)], retain_graph=True, allow_unused=True
        )
        one = self.attending[layer.number]
        if found is None:
            found = torch.zeros(self.graph.shape((one.product, 0)), device=self.scalars.device)
        counting = (_heads(found, layer) != 0).any(-1).any(1)
        counting = torch.where(counting.any(1, keepdim=True), counting, True).to(self.scalars.dtype)
        return counting / counting.sum(1, keepdim=True)

    def _edge(self, edge: Edge) -> GradientEdge:
        return GradientEdge(self.graph.nodes[edge[0]], edge[1])

    def _fused(self, one: Attending) -> Tensor | None:
        """``softmax(scale Q K^T + mask)`` of a fused kernel."""
        node: Any = self.graph.nodes[one.weights]
        query, key = saved(node, "query"), saved(node, "key")
        if query is None or key is None:
            return None
        query, key = _wide(query.detach()), _wide(key.detach())
        given = field(node, "scale", None)
        scale = 1 / math.sqrt(query.shape[-1]) if given is None else given
        scores = scale * query @ _for_heads(key, query.shape[-3]).transpose(-2, -1)
        mask = saved(node, "attn_mask")
        mask = saved(node, "attn_bias") if mask is None else mask
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        if field(node, "is_causal", False):
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        return scores.softmax(-1).nan_to_num(0)


def see(call: Call, target: Target, attentions: Attentions, *, read: Sequence[Point] = ()) -> Seen:
    """Run the model once, with its graph from the explained inputs on.

    Args:
        call: what is explained.
        target: the scalar.
        attentions: what is expected.
        read: further points whose values are wanted.

    Raises:
        ModelError: the model attends in another way than when it was surveyed.
    """
    function = call.function
    points = function.points
    wanted = [*points, *map(function.layer, target.layers()), *read]
    done = function.run({}, read=wanted, leaves=points, differentiate=True)
    scalar = function.fix(target, done)
    with torch.enable_grad():
        scalars = scalar.of(done)
    if scalars.grad_fn is None:
        raise ModelError("The explained scalar does not depend on the explained inputs: it has no gradient graph.")
    graph = build_graph([scalars.grad_fn])
    attending = attending_nodes(graph)
    if len(attending) != attentions.total:
        raise ModelError(
            f"The model attended {len(attending)} times on this input and {attentions.total} times on its first "
            "sample, so its attention cannot be told apart by layers. Explain the samples one by one."
        )
    return Seen(done, scalar, scalars, graph, attending)


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _for_heads(values: Tensor, heads: int) -> Tensor:
    """Keys or values of grouped heads, once for each head of the queries."""
    return values if values.shape[-3] == heads else values.repeat_interleave(heads // values.shape[-3], -3)


def _heads(values: Tensor, layer: SelfAttention) -> Tensor:
    """(N, heads, tokens, ...) of what an attention gave, however samples and heads are folded."""
    split = layer.layout.split
    if split is None or values.ndim == 4:
        return _wide(values if values.ndim == 4 else values.unsqueeze(1))
    _, heads, first = split
    sizes = (-1, heads) if first else (heads, -1)
    opened = values.reshape(*sizes, *values.shape[1:])
    return _wide(opened if first else opened.transpose(0, 1))
