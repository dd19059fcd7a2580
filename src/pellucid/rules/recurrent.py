"""Recurrent layers that a backend hides in one node."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pellucid.engine.step import Relevance, Step
from pellucid.errors import UnknownOpError

__all__ = ["refuse_opaque"]


def refuse_opaque(step: Step, _: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Fused recurrent layers show none of their gates and are refused; with the kernel off they need no rule.

    Raises:
        UnknownOpError: always; with the backend off, the same layer is ordinary operations.
    """
    raise UnknownOpError(
        f"{step.describe()} is a fused recurrent kernel that hides its gates. Pellucid turns these kernels off for "
        "models "
        f"with nn.LSTM, nn.GRU or nn.RNN; this one was called another way: use those modules, or run the forward under "
        f"torch.backends.mkldnn.flags(enabled=False) and torch.backends.cudnn.flags(enabled=False)."
    )
