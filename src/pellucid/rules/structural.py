"""Operations that only move, add or choose values: their own backward is the rule.

A linear map without weights is its own LRP-0 (Bach 2015, eq. 54: z_ij = x_i dy_j/dx_i); where one input is chosen, it
takes all (winner takes all).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pellucid.engine.ops import Op
from pellucid.engine.step import Relevance, Step
from pellucid.errors import UnknownOpError

__all__ = ["LINEAR_WRITES", "affine", "native", "winner", "write"]

LINEAR_WRITES = frozenset(
    "copy_ fill_ zero_ mul_ div_ add_ sub_ neg_ masked_fill_ index_put_ index_copy_ index_fill_ masked_scatter_".split()
)


def native(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Linear, so the node's own backward is LRP-0: ``z_ij = x_i dy_j/dx_i`` (Bach 2015, eq. 54)."""
    return list(step.keep_live(step.native(densities)))


def winner(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Winner takes all: the input that was chosen gets what arrives, which is the node's own backward (Bach 2015)."""
    return native(step, densities)


def affine(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """A sum passes on what arrives, ``G_a = G_b = G`` (Bach 2015, eq. 54).

    What the dead operands brought (a constant, a position embedding) is booked.
    """
    if not (all(step.live) and step.op in (Op.ADD, Op.JOIN) and not _has_scalar(step)):
        step.book_dead(densities)
    return native(step, densities)


def write(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """A write through a view: as a sum of what is kept and what is written, where what it hides is linear.

    Raises:
        UnknownOpError: the hidden operation is another one, or was not seen.
    """
    record = step.record
    hidden = "an operation that was not seen" if record is None else record.func._overloadpacket.__name__
    if record is not None and record.view is None and hidden != "copy_":
        record = None
    if record is None or hidden not in LINEAR_WRITES:
        raise UnknownOpError(
            f"{step.describe()} hides {hidden}, written in place through a view. Only linear writes "
            f"({', '.join(sorted(LINEAR_WRITES))}) can be followed: write that line without the in-place view, for "
            f"example with torch.cat or torch.where."
        )
    return affine(step, densities)


def _has_scalar(step: Step) -> bool:
    """Whether an addition of two operands may hold a number besides them (x + 2 shows one operand only)."""
    record = step.record
    return step.op is Op.ADD and record is not None and record.func._overloadname == "Scalar"
