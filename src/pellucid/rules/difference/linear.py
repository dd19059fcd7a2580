"""Operations that are linear in every live operand: alone by their own backward, several together halfway.

With two live factors, ``a b - a0 b0 = (a - a0) (b + b0) / 2 + (b - b0) (a + a0) / 2``: the average of the two orders in
which they may change. As a node's backward is linear in the other factor, that is the average of its backwards in both
runs, for products, matrix products, convolutions by live weights, sums of squares and the like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.pair import Both
from pellucid.engine.private import CDIST, DEVIATIONS, HOMOGENEOUS, VARIANCES
from pellucid.engine.record import Live

__all__ = ["factors", "linear", "reduction", "regions", "sample", "statistic", "write"]

_WRITES = frozenset(
    "copy_ fill_ zero_ mul_ div_ add_ sub_ neg_ masked_fill_ index_put_ index_copy_ index_fill_ masked_scatter_".split()
)


def linear(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Linear in all live operands together: the native backward."""
    return both.native(arrived)


def factors(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Linear in every live operand: the average of the native backwards in both runs."""
    if sum(both.live) < 2:
        return both.native(arrived)
    return halfway(both, arrived)


def halfway(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The average of the native backwards in both runs."""
    halves = [None if density is None else density / 2 for density in arrived]
    return both.natives(halves, halves)


def write(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """A write through a view (``CopySlices``), where what it hides was seen and is linear.

    Raises:
        UnknownOpError: the hidden operation is another one, or was not seen.
    """
    record = both.here.record
    hidden = "an operation that was not seen" if record is None else record.func._overloadpacket.__name__
    if hidden not in _WRITES or record is None or (record.view is None and hidden != "copy_"):
        raise both.refuse(
            f"it hides {hidden}, written in place through a view. Write that line without the in-place view, for "
            "example with torch.cat or torch.where."
        )
    if hidden == "div_" and sum(isinstance(value, Live) for value in record.args[1:]):
        raise both.refuse("it hides a division by what is behind the input, in place through a view.")
    return factors(both, arrived)


def reduction(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """A scatter that adds up or averages."""
    record = both.records[0]
    kind = next((value for value in (*record.args, *record.kwargs.values()) if isinstance(value, str)), "sum")
    if kind not in ("sum", "mean", "add"):
        raise both.refuse(f"it reduces by {kind!r}.")
    return both.native(arrived)


def sample(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Sampling at the places of a grid: linear in what is sampled."""
    if both.live[1]:
        raise both.refuse("the places at which it samples are behind the input.")
    return both.native(arrived)


def regions(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Region pooling: linear in the features, if the regions are the same."""
    nodes: list[Any] = [both.here.node, both.there.node]
    if not all(torch.equal(a, b) for a, b in zip(*(node.saved_tensors for node in nodes), strict=True)):
        raise both.refuse("the regions that it pools depend on the data and are others for the baseline.")
    return both.native(arrived)


def statistic(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Variances are squares, and so halfway; norms and deviations are roots of squares.

    For ``y = sqrt(sum x^2)``, ``y - y0 = sum (x + x0) (x - x0) / (y + y0)``; the native backward is x / y of what
    arrives, so that it is given ``y / (y + y0)`` of it in one run and ``y0 / (y + y0)`` in the other.
    """
    name = both.name
    if name in VARIANCES:
        return halfway(both, arrived)
    density, record = arrived[0], both.records[0]
    args, kwargs = record.args, record.kwargs
    order = kwargs.get("ord", kwargs.get("p", args[1] if len(args) > 1 and name not in DEVIATIONS else 2))
    if name == CDIST:
        order = args[2]
    if name not in HOMOGENEOUS or (name not in DEVIATIONS and order not in (2, None)):
        raise both.refuse("only Euclidean norms, distances, deviations and variances have one.")
    if density is None:
        return halfway(both, arrived)
    y, y0 = (one.first(*one.inputs).detach() for one in both.records)
    total = (y + y0).clamp(min=1e-300 if y.dtype.itemsize == 8 else 1e-30)
    rest = [None if other is None else other / 2 for other in arrived[1:]]
    return both.natives([density * (y / total), *rest], [density * (y0 / total), *rest])
