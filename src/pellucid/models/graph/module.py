"""A graph of named layers as a torch module: it runs them one after the other, as the file has them wired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import InputError


class Function(nn.Module):
    """An operation without weights of its own, as a layer: so it has a name, hooks and a place in lists of modules.

    Args:
        function: of tensors, and of ``settings`` by name.
        settings: what the file fixes.
    """

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.function = function
        self.settings = dict(settings or {})

    def forward(self, *values: Tensor | None) -> Any:
        """Apply the function to tensors; None stands for an optional one that is left out."""
        return self.function(*values, **self.settings)

    def __repr__(self) -> str:
        return f"{self.function.__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings.items())})"


@dataclass(frozen=True)
class Step:
    """One call of a layer: which values it takes (None: left out) and makes, and which are needed no more after it."""

    layer: str
    takes: tuple[int | None, ...]
    makes: tuple[int, ...]
    frees: tuple[int, ...] = ()


class GraphModule(nn.Module):
    """Layers named as in the file they came from, and the order and wiring in which they run.

    Its forward takes the inputs in the order of ``input_names``, or by these names. With one output it returns a
    tensor, else a tuple.

    Args:
        layers: by name; what the steps call. Dots in a name make modules that hold modules.
        steps: in running order.
        inputs: the names of the inputs and the value that each is.
        held: tensors of the graph itself: their names (parameters or buffers, see ``tensors``) and values.
        tensors: what ``held`` names.
        outputs: the names of the outputs and the value that each is.
        batch: the only number of samples that the steps work for, if there is one; others are run part by part.

    Raises:
        InputError: from the forward, where inputs are missing, too many or unknown, or their number of samples is no
            multiple of ``batch``.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        steps: Sequence[Step],
        *,
        inputs: Sequence[tuple[str, int]],
        held: Sequence[tuple[str, int]] = (),
        tensors: Mapping[str, Tensor] | None = None,
        outputs: Sequence[tuple[str, int]],
        batch: int | None = None,
    ) -> None:
        super().__init__()
        self.steps = tuple(steps)
        self.batch = batch
        self.input_names = tuple(name for name, _ in inputs)
        self.output_names = tuple(name for name, _ in outputs)
        self._inputs = tuple(value for _, value in inputs)
        self._outputs = tuple(value for _, value in outputs)
        self._held = tuple(held)
        for name in sorted(layers, key=lambda name: name.count(".")):
            parent, _, last = name.rpartition(".")
            self._holder(parent).add_module(last, layers[name])
        for name, tensor in (tensors or {}).items():
            parent, _, last = name.rpartition(".")
            if isinstance(tensor, nn.Parameter):
                self._holder(parent).register_parameter(last, tensor)
            else:
                self._holder(parent).register_buffer(last, tensor)

    def _holder(self, path: str) -> nn.Module:
        """The module at a path, made where there is none."""
        here: nn.Module = self
        for name in path.split(".") if path else ():
            if name not in here._modules:
                here.add_module(name, nn.Module())
            here = here.get_submodule(name)
        return here

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the steps on the inputs, given in order or by name."""
        given = self._ordered(inputs, named)
        whole = self.batch is None or all(value.shape[:1] == (self.batch,) for value in given)
        made = self._run(given) if whole else self._in_parts(given, self.batch or 1)
        return made[0] if len(made) == 1 else made

    def _in_parts(self, given: Sequence[Tensor], batch: int) -> tuple[Any, ...]:
        """Run the steps on so many samples as they work for, again and again."""
        count = len(given[0]) if given[0].ndim else 0
        if not count or count % batch or any(value.shape[:1] != (count,) for value in given):
            raise InputError(
                f"this model was written for {batch} samples at once, but got inputs of the shapes "
                f"{', '.join(str(tuple(value.shape)) for value in given)}."
            )
        parts = zip(*(torch.split(value, batch) for value in given), strict=True)
        return tuple(torch.cat(made) for made in zip(*(self._run(part) for part in parts), strict=True))

    def _run(self, given: Sequence[Any]) -> tuple[Any, ...]:
        values: dict[int, Any] = dict(zip(self._inputs, given, strict=True))
        for name, value in self._held:
            parent, _, last = name.rpartition(".")
            values[value] = getattr(self.get_submodule(parent), last)
        for step in self.steps:
            result = self.get_submodule(step.layer)(*(None if place is None else values[place] for place in step.takes))
            if len(step.makes) == 1 and not isinstance(result, (tuple, list)):
                values[step.makes[0]] = result
            else:
                values.update(zip(step.makes, result, strict=False))
            for place in step.frees:
                del values[place]
        return tuple(values[place] for place in self._outputs)

    def __repr__(self) -> str:
        """One line a step: the layer, and after an arrow where its inputs come from."""
        origin = {value: name for name, value in (*zip(self.input_names, self._inputs, strict=True), *self._held)}
        lines, shown = [f"{type(self).__name__}(  # {', '.join(self.input_names)}"], set()
        for step in self.steps:
            layer = "again" if step.layer in shown else repr(self.get_submodule(step.layer)).replace("\n", "\n  ")
            shown.add(step.layer)
            sources = ", ".join("-" if place is None else origin[place] for place in step.takes)
            lines.append(f"  ({step.layer}): {layer}  <- {sources}")
            several = len(step.makes) > 1
            origin |= {value: f"{step.layer}[{k}]" if several else step.layer for k, value in enumerate(step.makes)}
        return "\n".join([*lines, f")  -> {', '.join(origin[place] for place in self._outputs)}"])

    def _ordered(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> list[Any]:
        left = self.input_names[len(inputs) :]
        if len(inputs) > len(self.input_names) or set(named) != set(left):
            raise InputError(
                f"this model takes {len(self.input_names)} inputs ({', '.join(self.input_names)}), in this order or by "
                f"name, but got {len(inputs)} in order and {sorted(named) or 'none'} by name."
            )
        return [*inputs, *(named[name] for name in left)]
