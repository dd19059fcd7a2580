"""Settings of a node as Python values, and typed access to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

import numpy as np
from torch import Tensor

from pellucid.errors import FileError, ModelError

T = TypeVar("T")
FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS = range(1, 9)


def python_value(proto: Any, tensor: Callable[[Any], Tensor]) -> Any:
    """The value of an ``AttributeProto`` that is no graph; ``tensor`` reads a ``TensorProto``.

    Numbers get the shortest decimals that mean the same float32: 1e-5, not 9.99999974e-06.

    Raises:
        ModelError: a kind of setting that is not known.
    """
    if proto.type == FLOAT:
        return _decimal(proto.f)
    if proto.type == INT:
        return proto.i
    if proto.type == STRING:
        return proto.s.decode("utf-8", "replace")
    if proto.type == TENSOR:
        return tensor(proto.t)
    if proto.type == FLOATS:
        return tuple(_decimal(value) for value in proto.floats)
    if proto.type == INTS:
        return tuple(proto.ints)
    if proto.type == STRINGS:
        return tuple(value.decode("utf-8", "replace") for value in proto.strings)
    raise ModelError(f"the setting {proto.name!r} is of ONNX's kind {proto.type}, which is not known here.")


def _decimal(value: float) -> float:
    return float(str(np.float32(value)))


class Attributes:
    """Typed access to the settings of a node.

    Args:
        values: by name.
        where: the node in words, for errors.
        version: of the operator set.

    Raises:
        FileError: from every reader, where a setting is of another kind than the operator takes.
    """

    def __init__(self, values: Mapping[str, Any], where: str, version: int) -> None:
        self._values = values
        self.where = where
        self.version = version

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @overload
    def integer(self, key: str) -> int | None: ...
    @overload
    def integer(self, key: str, default: int) -> int: ...
    def integer(self, key: str, default: int | None = None) -> int | None:
        """A whole number."""
        return self._typed(key, int, "a whole number", default)

    @overload
    def number(self, key: str) -> float | None: ...
    @overload
    def number(self, key: str, default: float) -> float: ...
    def number(self, key: str, default: float | None = None) -> float | None:
        """A number."""
        return self._typed(key, float, "a number", default)

    @overload
    def text(self, key: str) -> str | None: ...
    @overload
    def text(self, key: str, default: str) -> str: ...
    def text(self, key: str, default: str | None = None) -> str | None:
        """A word."""
        return self._typed(key, str, "text", default)

    def flag(self, key: str, default: bool = False) -> bool:
        """A truth value, which ONNX writes as 0 or 1."""
        return bool(self.integer(key, int(default)))

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of the words that the operator knows."""
        found = self.text(key, default)
        if found not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return found

    @overload
    def integers(self, key: str) -> tuple[int, ...] | None: ...
    @overload
    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]: ...
    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        """Whole numbers."""
        return self._listed(key, int, "whole numbers", default)

    def numbers(self, key: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """Numbers."""
        return self._listed(key, float, "numbers", default) or ()

    def words(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Words."""
        return self._listed(key, str, "texts", default) or ()

    def tensor(self, key: str) -> Tensor | None:
        """A tensor."""
        return self._typed(key, Tensor, "a tensor", None)

    def wrong(self, key: str, expected: str) -> FileError:
        """The error for a setting of another kind."""
        return FileError(f"{self.where}: {key} must be {expected}, but is {self._values.get(key)!r:.80}.")

    def _typed(self, key: str, kind: type[T], expected: str, default: T | None) -> T | None:
        found = self._values.get(key)
        if found is None:
            return default
        if not isinstance(found, kind):
            raise self.wrong(key, expected)
        return found

    def _listed(self, key: str, kind: type[T], expected: str, default: tuple[T, ...] | None) -> tuple[T, ...] | None:
        found = self._typed(key, tuple, expected, None)
        if found is None:
            return default
        if not all(isinstance(value, kind) for value in found):
            raise self.wrong(key, expected)
        return found
