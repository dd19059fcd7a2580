"""Does a call leave everything as it found it?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from pellucid.testing.snapshot import Snapshot

__all__ = ["check_restores"]

T = TypeVar("T")

_MOST = 12


def check_restores(model: nn.Module, x: Any, call: Callable[[], T]) -> T:
    """Run ``call()`` and fail if it changed anything that is not its own.

    Looked at: parameters and buffers (identity, values, version, requires_grad, gradient, hooks), training flags, hooks
    and attributes of every module, the input's tensors, the random states of torch, numpy and Python, and torch's
    settings (grad and inference mode, default dtype and device, mkldnn, cuDNN, attention backends, deterministic flags,
    autocast, dispatch modes, the compiler's stance).

    Args:
        model: the module that ``call`` works on.
        x: its input; a tensor, or a tuple or dict that holds tensors.
        call: takes nothing, uses ``model`` and ``x``; it may raise anything, also KeyboardInterrupt.

    Returns:
        What ``call`` returned. What it raised is raised again, if nothing was changed.

    Raises:
        AssertionError: something changed; the message names it.

    Example:
        >>> model = torch.nn.Linear(3, 2).eval()
        >>> x = torch.randn(1, 3)
        >>> explanation = check_restores(model, x, lambda: pellucid.explain(model, x, target=0))
    """
    before = Snapshot(model, x)
    try:
        result = call()
    except BaseException as error:
        _compare(before, Snapshot(model, x), f"The call raised {type(error).__name__} and", error)
        raise
    _compare(before, Snapshot(model, x), "The call", None)
    return result


def _compare(before: Snapshot, after: Snapshot, who: str, cause: BaseException | None) -> None:
    changes = before.changes(after)
    if changes:
        named = "; ".join(changes[:_MOST]) + (f"; and {len(changes) - _MOST} more" if len(changes) > _MOST else "")
        raise AssertionError(f"{who} changed what it should have left as it was: {named}.") from cause
