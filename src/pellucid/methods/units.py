"""The units of a layer that relevance may be kept to: channels, features, heads of attention."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.engine.graph import Graph, build_graph
from pellucid.engine.ops import Op
from pellucid.engine.private import SAME_ELEMENTS
from pellucid.engine.taps import Mask, outputs_on
from pellucid.engine.trace import Start, Trace
from pellucid.errors import InputError
from pellucid.methods.positions.attending import attending_nodes

__all__ = ["masks", "module_outputs", "unit_scores"]

_UNITS_FIRST = (Op.CONVOLUTION, Op.BATCH_NORM, Op.GROUP_NORM, Op.MAX_POOL, Op.AVERAGE_POOL)
_UNITS_LAST = (Op.LINEAR, Op.LAYER_NORM, Op.RMS_NORM, Op.RECURRENT, Op.EMBEDDING)
_HEADS = re.compile(r"\s*heads?\s*:\s*(\d+(?:\s*,\s*\d+)*)\s*")


def masks(graph: Graph, trace: Trace, name: str, units: int | Sequence[int] | str | Tensor) -> list[Mask]:
    """What lets relevance through some units of a module only.

    Args:
        graph: of the explained scalar.
        trace: the forward.
        name: of the module.
        units: their numbers; "heads:0,2", heads of the attention that the module holds; or (N, units), for every
            sample 1 or 0.

    Raises:
        InputError: the module did not run, or has no such units.
    """
    if isinstance(units, str):
        return _head_masks(graph, trace, name, units)
    found = []
    for i, output, value in module_outputs(graph, trace, name):
        dim = _unit_dimension(graph, i, value)
        size = value.shape[dim]
        if isinstance(units, Tensor):
            mask = units.to(value)
            if mask.shape != (len(value), size):
                raise InputError(
                    f"The module {name!r} gives {tuple(value.shape)}, which are not {size} units for each of "
                    f"{len(mask)} samples: choose another module."
                )
        else:
            mask = _of_numbers(name, units, value, dim)
        shape = [size if d == dim else len(mask) if d == 0 else 1 for d in range(value.ndim)]
        found.append(Mask(name, (i, output), mask.view(shape), value))
    return found


def _of_numbers(name: str, units: int | Sequence[int], value: Tensor, dim: int) -> Tensor:
    chosen = [units] if isinstance(units, int) else list(units)
    size = value.shape[dim]
    wrong = [unit for unit in chosen if not 0 <= int(unit) < size]
    if wrong or not chosen:
        raise InputError(
            f"keep={{{name!r}: {chosen}}}: the module has the units 0 to {size - 1} (dimension {dim} of its output "
            f"{tuple(value.shape)}), got {wrong or 'none'}."
        )
    mask = torch.zeros(1, size, dtype=value.dtype, device=value.device)
    mask[0, [int(unit) for unit in chosen]] = 1
    return mask


def _unit_dimension(graph: Graph, i: int, value: Tensor) -> int:
    """Which dimension of a module's output holds its units: found from the layer that made it.

    Channels come second behind a convolution, features last behind a linear layer; elementwise functions between are
    passed. Where nothing tells, sequences of vectors have them last, others second.
    """
    while True:
        if graph.ops[i] in _UNITS_FIRST:
            return 1
        if graph.ops[i] in _UNITS_LAST:
            return value.ndim - 1
        before = [edge for edge in graph.edges[i] if edge[0] >= 0 and graph.shape(edge) == value.shape]
        if not before:
            return 2 if value.ndim == 3 else 1
        i = before[0][0]


def _head_masks(graph: Graph, trace: Trace, name: str, units: str) -> list[Mask]:
    match = _HEADS.fullmatch(units)
    if match is None:
        raise InputError(
            f"keep={{{name!r}: {units!r}}}: expected numbers of units, such as [0, 3], or heads of attention, such as "
            "'heads:0,2'."
        )
    found = []
    chosen = sorted({int(number) for number in match[1].split(",")})
    for one in attending_nodes(graph):
        (ran_in,) = trace.observer.module_of([graph.sequence(one.product)])
        if name and ran_in != name and not ran_in.startswith(f"{name}."):
            continue
        sizes = _leading_sizes(graph, one.product, trace, ran_in)
        heads = sizes[-1]
        if chosen[-1] >= heads:
            raise InputError(
                f"keep={{{name!r}: {units!r}}}: the attention in {ran_in or 'the model'!r} has the heads 0 to "
                f"{heads - 1}."
            )
        mask = torch.zeros(heads)
        mask[chosen] = 1
        shape = graph.shape((one.product, 0))
        found.append(Mask(name, (one.product, 0), mask.expand(sizes).reshape(*shape[:-2], 1, 1)))
    if not found:
        raise InputError(
            f"keep={{{name!r}: {units!r}}}: the module holds no attention on a path to the explained scalar, or one "
            "that could not be recognised (a softmax whose result weighs the rows of a matrix product, or PyTorch's "
            "fused kernels)."
        )
    return found


def _leading_sizes(graph: Graph, product: int, trace: Trace, module: str) -> tuple[int, ...]:
    """The sizes before tokens and features of what an attention gives, heads last, as they are laid out in memory.

    Fused kernels have them apart. Matrix products have them as one, which the view that follows opens again; where
    none does, the module tells how many heads it has, or else they are what is left beside the samples.
    """
    shape = graph.shape((product, 0))
    if len(shape) > 3:
        return tuple(shape[:-2])
    for i, _ in graph.consumers[product]:
        opened = graph.shape((i, 0))
        if graph.names[i] in SAME_ELEMENTS and len(opened) > 3 and opened[-2:] == shape[-2:]:
            return tuple(opened[:-2])
    told = getattr(trace.shadow.modules.get(module), "num_heads", None)
    samples = trace.prepared.batch
    heads = told if isinstance(told, int) and told > 0 else shape[0] // samples
    if heads < 1 or shape[0] % heads:
        raise InputError(
            f"The heads of the attention in {module or 'the model'!r} cannot be told apart: it gives {tuple(shape)} "
            f"for {samples} samples."
        )
    return (shape[0] // heads, heads)


def unit_scores(trace: Trace, start: Start, name: str, relevance: Tensor) -> Tensor:
    """(N, units): relevance at a module's output, summed over its positions.

    Raises:
        InputError: the module did not run.
    """
    assert start.node is not None
    graph = build_graph([start.node])
    i, _, value = module_outputs(graph, trace, name)[0]
    dim = _unit_dimension(graph, i, value)
    return relevance.movedim(dim, 1).flatten(2).sum(2) if value.ndim > 2 else relevance


def module_outputs(graph: Graph, trace: Trace, name: str) -> list[tuple[int, int, Tensor]]:
    """Node, output and value of everything that a module returned.

    Raises:
        InputError: it did not run on a path to the explained scalar, or what it gave in several runs has other shapes.
    """
    found = outputs_on(graph, trace.observer.outputs, name)
    return [(graph.index[made.node], made.output, made.value) for made in found]
