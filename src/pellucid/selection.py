"""Selections of layers: values that print, and say of a layer whether it is meant."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from pellucid.engine.ops import Kind, Op
from pellucid.engine.plan import Layer
from pellucid.errors import InputError

__all__ = ["Selection", "select"]

_NAMES = frozenset(op.label for op in Op) | frozenset(kind.value for kind in Kind) | {"layer"}


@dataclass(frozen=True)
class Selection:
    """Layers that fit every condition given; see :func:`select`."""

    op: tuple[str, ...] | None = None
    type: str | None = None
    name: str | None = None
    first: bool | None = None
    last: bool | None = None
    spatial: bool | None = None
    attention: bool | None = None
    convolved: bool | None = None

    def __call__(self, layer: Layer) -> bool:
        """Whether ``layer`` is meant."""
        if self.op is not None and not self.op_fits(layer.op):
            return False
        if self.type is not None and not fnmatchcase(layer.module_type, self.type):
            return False
        if self.name is not None and not fnmatchcase(layer.module, self.name):
            return False
        wanted = (
            (self.first, layer.first),
            (self.last, layer.last),
            (self.spatial, layer.spatial),
            (self.attention, layer.attention),
            (self.convolved, layer.convolved),
        )
        return all(want is None or want == has for want, has in wanted)

    def op_fits(self, op: Op) -> bool:
        """Whether the operation is among those selected."""
        assert self.op is not None
        # "linear" is the dense layer; the kind that it shares with convolutions goes by "layer".
        kind = "layer" if op.kind is Kind.LINEAR else op.kind.value
        return op.label in self.op or kind in self.op

    def __str__(self) -> str:
        """The conditions in words."""
        words = []
        if self.first:
            words.append("first")
        if self.last:
            words.append("last")
        if self.spatial:
            words.append("spatial")
        words.append(" or ".join(self.op) if self.op is not None else "any operation")
        for refused, word in ((self.first, "first"), (self.last, "last"), (self.spatial, "spatial")):
            if refused is False:
                words.append(f"that is not {word}")
        if self.attention is not None:
            words.append(f"of a model {'with' if self.attention else 'without'} attention")
        if self.convolved is not None:
            words.append(f"whose input enters {'through a convolution' if self.convolved else 'without a convolution'}")
        if self.type is not None:
            words.append(f"in {self.type}")
        if self.name is not None:
            words.append(f"at {self.name}")
        return " ".join(words)


def select(
    op: str | tuple[str, ...] | None = None,
    *,
    type: str | None = None,
    name: str | None = None,
    first: bool | None = None,
    last: bool | None = None,
    spatial: bool | None = None,
    attention: bool | None = None,
    convolved: bool | None = None,
) -> Selection:
    """Select layers by operation, module type, module name or position.

    Args:
        op: an operation ("convolution", "linear" for dense layers, "relu", "softmax", ...), a kind ("product", "norm",
            ...), "layer" for convolutions and dense layers, or several of these.
        type: class name of the module that runs it, with wildcards ("Conv2d", "*Norm*").
        name: path of that module, with wildcards ("encoder.*.mlp.fc1").
        first: no linear layer lies between it and the explained input.
        last: no linear layer lies between it and the explained scalar.
        spatial: a convolution whose kernel spans more than one position.
        attention: the model has attention on the walked paths.
        convolved: the explained input enters the model through a convolution.

    Raises:
        InputError: no operation or kind has that name.
    """
    ops = (op,) if isinstance(op, str) else op
    for wanted in ops or ():
        if wanted not in _NAMES:
            raise InputError(
                f"No operation or kind is called {wanted!r}. Expected one of: {', '.join(sorted(_NAMES))}."
            )
    return Selection(ops, type, name, first, last, spatial, attention, convolved)
