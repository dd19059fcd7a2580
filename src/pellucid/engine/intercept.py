"""Reading and replacing what is at points while a shadow runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.engine.inputs import Prepared
from pellucid.engine.point import Kind, Point, Values
from pellucid.engine.shadow import Shadow
from pellucid.errors import InputError, ModelError

__all__ = ["Intercept", "first_floating", "function_name", "intercepting"]

_GATES = {"softmax": "softmax", "_softmax": "softmax", "log_softmax": "logsoftmax", "_log_softmax": "logsoftmax",
          "sigmoid": "sigmoid"}  # fmt: skip


class Intercept:
    """What one forward puts at points and finds there.

    Args:
        values: what to put where.
        read: points whose values are wanted.
        leaves: points at which a graph begins.
        ids: explained ids as the model is given them, by name.
        watch: look out for a softmax or sigmoid that makes the output.
    """

    def __init__(
        self, values: Values, read: Sequence[Point], leaves: Sequence[Point], *, ids: Mapping[str, Tensor], watch: bool
    ) -> None:
        self.values = values
        self.found: dict[Point, Tensor] = {}
        self.watch = watch
        self._asked = {*values, *read, *leaves}
        self._wanted = {*read, *leaves}
        self._leaves = frozenset(leaves)
        self._ids = ids
        self._looked_up = dict.fromkeys(ids, 0)
        self._ran: dict[tuple[Kind, str], int] = {}
        self._gate: tuple[str, Tensor, Tensor] | None = None

    @property
    def layers(self) -> list[str]:
        """Names of the modules at whose outputs something is read or put."""
        return list(dict.fromkeys(point.name for point in self._asked if point.kind is Kind.LAYER))

    @property
    def calls(self) -> bool:
        """Whether results of functions matter."""
        return any(point.kind is Kind.CALL for point in self._asked)

    @property
    def looks_up(self) -> bool:
        """Whether look-ups matter."""
        return any(point.kind is Kind.LOOK_UP for point in self._asked)

    def arguments(self, prepared: Prepared, rows: Tensor | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the model is called with."""
        given = {}
        for name, value in prepared.values.items():
            point = Point(Kind.INPUT, name)
            if name in self._ids:
                given[name] = self._ids[name]
            elif point in self._asked:
                given[name] = self.at(point, _of_rows(value.detach(), rows, prepared.batch))
            else:
                given[name] = _of_rows(value.detach(), rows, prepared.batch).clone()
        return prepared.arguments(given)

    def at(self, point: Point, value: Tensor) -> Tensor:
        """What goes on from ``point``, where the model brought ``value``; a copy wherever the original is kept."""
        if point in self.values:
            value = self.values[point].to(value.dtype)
        elif point not in self._wanted:
            return value
        beside = torch.is_grad_enabled() and not value.requires_grad  # made of nothing that is explained
        if point in self._leaves or (beside and point in self._wanted):
            value = value.detach().requires_grad_()
        if point in self._wanted:
            if point in self.found:
                raise InputError(
                    f"The {point} runs several times in one forward, so its output is not one value. Name a module "
                    "inside or around it that runs once."
                )
            self.found[point] = value
        return value.clone()  # what follows may write into it

    def ran(self, name: str) -> Point:
        """A module ran once more: the point at its output."""
        point = Point(Kind.LAYER, name, self._count(Kind.LAYER, name))
        return point if point in self._asked else Point(Kind.LAYER, name)

    def called(self, name: str, result: Any) -> Any:
        """What goes on from a function that the model called."""
        point = Point(Kind.CALL, name, self._count(Kind.CALL, name))
        return self.at(point, result) if isinstance(result, Tensor) else result

    def _count(self, kind: Kind, name: str) -> int:
        self._ran[kind, name] = self._ran.get((kind, name), 0) + 1
        return self._ran[kind, name]

    def look_up(self, ids: object, vectors: Tensor) -> Tensor:
        """What goes on from an embedding that was asked for ``ids``."""
        if not isinstance(ids, Tensor):
            return vectors
        for name, explained in self._ids.items():
            same = ids.data_ptr() == explained.data_ptr() and ids.numel() == explained.numel()
            if same or (ids.shape == explained.shape and torch.equal(ids, explained)):
                point = Point(Kind.LOOK_UP, name, self._looked_up[name])
                self._looked_up[name] += 1
                if Point(Kind.LOOK_UP, name) in self._wanted:
                    self._wanted.add(point)
                    if Point(Kind.LOOK_UP, name) in self._leaves:
                        self._leaves |= {point}
                return self.at(point, vectors)
        return vectors

    def gated(self, name: str, before: object, after: object) -> None:
        """A softmax or sigmoid ran."""
        if isinstance(before, Tensor) and isinstance(after, Tensor):
            self._gate = (name, before, after)

    def gate_of(self, output: Tensor) -> tuple[str | None, Tensor | None]:
        """The kind and input of the softmax or sigmoid that made ``output``, the model's, if one did."""
        if self._gate is None:
            return None, None
        name, before, after = self._gate
        if after.data_ptr() != output.data_ptr() or after.numel() != output.numel():
            return None, None
        return name, before.reshape(output.shape)

    def check(self) -> None:
        """Refuse a forward that did not come by every point.

        Raises:
            ModelError: ids are looked up in no embedding. InputError: a layer did not run or gave no tensor.
        """
        for point in self._wanted - set(self.found):
            if point.kind is Kind.LOOK_UP:
                raise ModelError(
                    f"The explained ids {point.name!r} are looked up in no embedding (torch.nn.Embedding or "
                    "torch.nn.functional.embedding), so there is no value to explain them by. Use method='lrp', or "
                    "give the embedded vectors."
                )
            raise InputError(
                f"The {point} did not run in this forward, or returned no floating tensor. Names are those of "
                "model.named_modules()."
            )


def _of_rows(value: Tensor, rows: Tensor | None, batch: int) -> Tensor:
    if rows is None or value.ndim == 0 or value.shape[0] != batch:
        return value
    return value.index_select(0, rows)


class _Functions(TorchFunctionMode):
    """Sees look-ups and output gates by the functions that models call."""

    def __init__(self, intercept: Intercept) -> None:
        super().__init__()
        self._intercept = intercept

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = function_name(func)
        if self._intercept.calls:
            result = self._intercept.called(name, result)
        if name == "embedding" and isinstance(result, Tensor):
            return self._intercept.look_up(_ids_of(args, kwargs), result)
        if name in _GATES:
            self._intercept.gated(_GATES[name], args[0] if args else kwargs.get("input"), result)
        return result


def function_name(func: Any) -> str:
    """The name of a function as models call it, without the variant that an operator's name ends in."""
    return str(getattr(func, "__name__", "")).partition(".")[0]


def _ids_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    """The ids of an embedding call, whose first argument they are in torch.nn.functional and the second in torch."""
    given = [*args[:2], kwargs.get("input"), kwargs.get("indices")]
    return next((value for value in given if isinstance(value, Tensor) and not value.is_floating_point()), None)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees output gates of scripted models, whose functions are not called from Python."""

    def __init__(self, intercept: Intercept) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._intercept = intercept

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._overloadpacket.__name__
        if name in _GATES:
            self._intercept.gated(_GATES[name], args[0], result)
        return result


@contextmanager
def intercepting(intercept: Intercept, shadow: Shadow) -> Iterator[None]:
    """Let ``intercept`` read and replace while the shadow runs."""
    with ExitStack() as stack:
        for name in intercept.layers:
            module = shadow.modules[name]
            if isinstance(module, torch.jit.ScriptModule):
                raise InputError(f"The module {name!r} is TorchScript, whose parts cannot be read or replaced.")
            handle = module.register_forward_hook(_hook(intercept, name))
            stack.callback(handle.remove)
        if intercept.looks_up or intercept.calls or (intercept.watch and not shadow.scripted):
            stack.enter_context(_Functions(intercept))
        if intercept.watch and shadow.scripted:
            stack.enter_context(_Operations(intercept))
        yield


def first_floating(output: object) -> Tensor | None:
    """The tensor of a module's output at which its point is: itself, or the first floating one that it holds."""
    held: Any = output.values() if isinstance(output, Mapping) else output
    parts = held if isinstance(output, (Mapping, tuple, list)) else [output]
    return next((part for part in parts if isinstance(part, Tensor) and part.is_floating_point()), None)


def _hook(intercept: Intercept, name: str) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        point = intercept.ran(name)
        if isinstance(output, Tensor):
            return intercept.at(point, output) if output.is_floating_point() else None
        if isinstance(output, Mapping):
            for key, part in output.items():
                if isinstance(part, Tensor) and part.is_floating_point():
                    changed: Any = copy.copy(output)
                    changed[key] = intercept.at(point, part)
                    return changed
        elif isinstance(output, (tuple, list)):
            for k, part in enumerate(output):
                if isinstance(part, Tensor) and part.is_floating_point():
                    parts = [*output[:k], intercept.at(point, part), *output[k + 1 :]]
                    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
        return None

    return hook
