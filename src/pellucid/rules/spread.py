"""The spread of a linear map's output, which a relative stabiliser is a share of."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.engine.private import CONVOLUTIONS, SAME_ELEMENTS
from pellucid.errors import InputError
from pellucid.rules.maps import LinearMap

__all__ = ["row_spread", "sample_spread"]


def row_spread(layer: LinearMap, z: Tensor) -> Tensor:
    """The standard deviation over what each position is mapped to, broadcastable to ``z``; 0 for single numbers."""
    features = _features(layer)
    return torch.zeros_like(z) if features is None else z.std(features, keepdim=True, correction=0)


def _features(layer: LinearMap) -> int | None:
    """The dimension of the output that holds what one position of the signal is mapped to; None: it is a number."""
    graph, i = layer.step.walk.graph, layer.step.index
    if graph.names[i] in CONVOLUTIONS:
        return 1
    dims = len(graph.shape((i, 0)))
    if layer.signal < layer.weights:
        return None if layer.weight.ndim == 1 else dims - 1
    return max(dims - 2, 0)


def sample_spread(layer: LinearMap, z: Tensor) -> Tensor:
    """The standard deviation over each sample, in the shape of ``z``.

    Raises:
        InputError: nothing tells which rows belong to which sample.
    """
    found = _by_sample(layer, z)
    if found is None:
        raise InputError(
            f"Epsilon(relative='sample') cannot tell which rows of {layer.step.describe()}, which gives "
            f"{tuple(z.shape)}, belong to which of the {layer.step.walk.samples} samples. Use relative='row', or "
            "explain the samples one by one."
        )
    whole, dim = found
    spread = whole.std([d for d in range(whole.ndim) if d != dim], keepdim=True, correction=0)
    return spread.expand_as(whole).reshape(z.shape)


def _by_sample(layer: LinearMap, z: Tensor) -> tuple[Tensor, int] | None:
    """``z`` in a shape in which one dimension holds the samples, and which.

    Dense layers see all positions of all samples as rows of one matrix: the view before them knows which are whose.
    """
    samples, graph = layer.step.walk.samples, layer.step.walk.graph
    if samples == 1:
        return z.unsqueeze(0), 0
    if _features(layer) == 0:
        return None
    if z.shape[0] == samples:
        return z, 0
    before = graph.edges[layer.step.index][layer.signal][0]
    if before < 0 or graph.names[before] not in SAME_ELEMENTS:
        return None
    sizes = graph.shape(graph.edges[before][0])
    leading = next((sizes[:k] for k in range(2, len(sizes)) if sizes[:k].numel() == z.shape[0]), None)
    if leading is None or samples not in leading:
        return None
    return z.view(*leading, *z.shape[1:]), leading.index(samples)
