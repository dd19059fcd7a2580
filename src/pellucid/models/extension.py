"""Operators that users add to the tables of the formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pellucid.errors import InputError
from pellucid.models.exported.operation import Slot, leaves
from pellucid.models.exported.operators import OPERATORS as EXPORTED
from pellucid.models.exported.operators import Arguments
from pellucid.models.graph.assembly import Build, Call
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.table import OPERATORS as MXNET
from pellucid.models.onnx.table import OPERATORS as ONNX

_own: set[tuple[str, str]] = set()


def register_operator(kind: str, name: str, function: Callable[..., Any], *, outputs: int = 1) -> None:
    """Teach the loader of a format an operator that it does not know.

    The function becomes part of every model loaded from then on that uses the operator. Made of torch's operations, it
    is explained like any other; what it computes must not be hidden from autograd.

    Args:
        kind: ``mxnet``, ``onnx`` or ``pt2``.
        name: the operator, as the error names it; in ONNX ``domain::Operator`` where it is of a domain of its own.
        function: takes the operator's inputs in order as tensors (weights too; None for one that is left out) and its
            settings by name, read as Python values; returns a tensor, or a tuple of ``outputs`` tensors. A function of
            a module rather than a lambda, so that the model can be saved.
        outputs: how many tensors it returns.

    Raises:
        InputError: no such format, or an operator that the package itself knows.

    Example:
        >>> import torch
        >>> def swish(x, beta=1.0):
        ...     return x * torch.sigmoid(beta * x)
        >>> register_operator("mxnet", "my_swish", swish)
    """
    if kind not in _TABLES:
        raise InputError(f"register_operator: no format is called {kind!r}. Expected one of: {', '.join(_TABLES)}.")
    table, settings_of = _TABLES[kind]
    if name in table and (kind, name) not in _own:
        raise InputError(f"register_operator: {name!r} is an operator of {kind} that is known already.")

    def build(call: Call) -> Any:
        return call.apply_many(function, *call.inputs, outputs=outputs, **settings_of(call))

    _own.add((kind, name))
    table[name] = build


def _exported_settings(call: Call) -> dict[str, Any]:
    """The settings that are no values, by the names of the operator's own arguments."""
    return {
        key: value
        for key, value in Arguments(call).named.items()
        if not any(isinstance(part, Slot) for part in leaves(value))
    }


def _mxnet_settings(call: Call) -> dict[str, Any]:
    return Attributes(call.node.attributes, call.where).literals()


def _onnx_settings(call: Call) -> dict[str, Any]:
    return dict(call.node.attributes)


_TABLES: dict[str, tuple[dict[str, Build], Callable[[Call], dict[str, Any]]]] = {
    "mxnet": (MXNET, _mxnet_settings),
    "onnx": (ONNX, _onnx_settings),
    "pt2": (EXPORTED, _exported_settings),
}
