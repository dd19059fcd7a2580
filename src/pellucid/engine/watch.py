"""An observer of runs in which no parameter needs a gradient."""

from __future__ import annotations

from torch import Tensor

from pellucid.engine.observer import Observer

__all__ = ["Watch"]


class Watch(Observer):  # type: ignore[no-untyped-call]
    """Sees a run with frozen parameters, where whatever needs a gradient has a path from an explained input."""

    def _is_live(self, tensor: Tensor) -> bool:  # noqa: ARG002
        return True

    def lost(self, tensor: Tensor) -> list[str]:
        """The module in which the value itself lost its gradient, if it did."""
        return [self._cut[tensor]] if tensor in self._cut else []
