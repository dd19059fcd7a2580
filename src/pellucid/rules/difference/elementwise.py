"""Elementwise functions by the rescale rule (Shrikumar 2017, section 3.5.1): one quotient for every element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.numerics import reduce_to
from pellucid.engine.pair import Both
from pellucid.engine.record import Record
from pellucid.errors import ModelError
from pellucid.rules.difference.slopes import in_blocks, relu_slope, rescale_slope

__all__ = ["changed", "glu", "of_saved", "relu", "rescale"]


def rescale(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Any elementwise function of one live operand."""
    density = arrived[0]
    if density is None:
        return [None] * len(both.live)
    if sum(both.live) != 1:
        raise both.refuse("it is a function of several signals at once, which the rescale rule cannot share.")
    x, x0 = both.inputs()
    messages: list[Tensor | None] = [None] * len(both.live)
    messages[both.live.index(True)] = _times_slope(both.records[0], density, x, x0)
    return messages


def _times_slope(record: Record, density: Tensor, x: Tensor, x0: Tensor) -> Tensor:
    if x.is_complex():
        raise ModelError(
            f"DeepLIFT compares real values, but {record.func._overloadpacket.__name__} is a function of complex ones."
        )
    alone = not any(tensor.numel() > 1 for tensor in record.dead_tensors())
    if alone and x.dtype in (torch.float16, torch.bfloat16):
        slope = rescale_slope(record.first, x.float(), x0.float())
        return (slope * density).to(density.dtype)
    if alone and density.shape == x.shape:
        return in_blocks(lambda m, a, b: rescale_slope(record.first, a, b).mul_(m), [density, x, x0])
    full = density.shape
    slope = rescale_slope(record.first, x.expand(full), x0.expand(full), pointwise=False)
    return reduce_to(density * slope, x.shape)


def changed(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """A function of one signal whose mask or numbers depend on the data without a gradient, as in ``x * (x > 0)``.

    Raises:
        ModelError: results differ where the signal does not, so that something else made the difference.
    """
    density = arrived[0]
    assert both.region is not None
    source = both.region.source
    walks = both.here.walk, both.there.walk
    x, x0 = (walk.values.of(source) for walk in walks)
    if x is None or x0 is None:
        raise both.refuse("the value that enters it was not kept.")
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        result = both.region.replay(walks[0].graph, walks[0].observer, leaf)
        (derivative,) = torch.autograd.grad(result.sum(), leaf)
    y, y0 = result.detach(), both.region.replay(walks[1].graph, walks[1].observer, x0)
    same = x == x0
    if bool((same & (y != y0)).any()):
        raise ModelError(
            f"At {both.here.describe()} the result depends on the data in a way that carries no gradient (a mask, an "
            "index, a detached value), which is another one for the baseline: what that changed cannot be shared "
            "among inputs. Give a baseline= for which it is the same, or use another method."
        )
    slope = torch.where(same, derivative, (y - y0) / torch.where(same, 1, x - x0))
    return [None if density is None else density * slope]


def relu(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """ReLU, in closed form."""
    density = arrived[0]
    if density is None:
        return [None]
    x, x0 = both.inputs()
    return [in_blocks(lambda m, a, b: relu_slope(a, b).mul_(m), [density, x, x0])]


def glu(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gated linear unit ``a * sigmoid(b)``: the product by the rule of two factors, the gate by the rescale rule."""
    density = arrived[0]
    if density is None:
        return [None]
    record = both.records[0]
    x, x0 = both.inputs()
    dim = int(record.args[1]) if len(record.args) > 1 else -1
    (a, b), (a0, b0) = x.chunk(2, dim), x0.chunk(2, dim)
    signal = density * (torch.sigmoid(b) + torch.sigmoid(b0)) / 2
    gate = density * (a + a0) / 2 * rescale_slope(torch.sigmoid, b, b0)
    return [torch.cat((signal, gate), dim)]


def of_saved(f: Callable[[Tensor], Tensor]) -> Callable[[Both, Sequence[Tensor | None]], list[Tensor | None]]:
    """The rule for a custom elementwise function that saves its operand and nothing else."""

    def rule(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
        nodes: list[Any] = [both.here.node, both.there.node]
        (x,), (x0,) = (node.saved_tensors for node in nodes)
        density = arrived[0]
        return [None if density is None else density * rescale_slope(f, x, x0)]

    return rule
