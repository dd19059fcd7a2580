"""A graph of layers as the text of a Python file that builds it without this package."""

from __future__ import annotations

import inspect
import keyword
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import ModelError
from pellucid.models.convert.sources import Sources
from pellucid.models.exported.operation import PYTHON, Here, Inline, Operation, Slot, WithoutGradient
from pellucid.models.graph.module import Function, GraphModule, Step

CLASS = "Model"
_SPACES: Mapping[str, Any] = {
    "torch": torch,
    "F": F,
    "torch.special": torch.special,
    "torch.linalg": torch.linalg,
    "torch.fft": torch.fft,
    "torch.Tensor": torch.Tensor,
    "operator": operator,
    "math": math,
}
_RESERVED = {
    "torch",
    "nn",
    "F",
    "Tensor",
    "operator",
    "math",
    "Path",
    "load_file",
    "load",
    "self",
    "annotations",
    CLASS,
}
_TORCH_RNN = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


class Code:
    """The text of a graph.

    Args:
        module: what is written.

    Raises:
        ModelError: a layer that has no short form in Python.
    """

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self._sources = Sources(_RESERVED)
        self._init: list[str] = []
        self._ties: list[str] = []
        self._run: list[str] = []
        self._attributes: dict[str, str] = {}  # layer in the graph -> attribute in the file
        self._first: dict[int, str] = {}
        self.state: dict[str, Tensor] = {}
        """The weights by their names in the file."""
        for step in module.steps:
            self._learn(module.get_submodule(step.layer))
        self._held = self._names_of_held()
        self._forward()

    def text(self, title: str) -> str:
        """The file, with ``title`` as the first line of its docstring."""
        parameters = "".join(f", {name}: Tensor" for name in self._inputs)
        body = [
            *(f"{definition}\n\n" for definition in self._sources.definitions),
            f"class {CLASS}(nn.Module):",
            f'    """Takes {", ".join(self._inputs)}; gives {plain(", ".join(self._module.output_names))}."""',
            "",
            "    def __init__(self) -> None:",
            "        super().__init__()",
            *(f"        {line}" for line in self._init),
            *(f"        {line.replace('model.', 'self.')}" for line in self._ties),
            "",
            f"    def forward(self{parameters}):",
            *(f"        {line}" for line in self._run),
            "",
            "",
            f'def load(weights: str | Path = Path(__file__).with_suffix(".safetensors")) -> {CLASS}:',
            '    """The model with its weights, in evaluation mode."""',
            f"    model = {CLASS}()",
            "    model.load_state_dict(load_file(weights), assign=True)",
            *(f"    {line}" for line in self._ties),
            "    return model.eval()",
            "",
        ]
        own = {line for line in self._sources.imports if line != "import torch"}
        own |= {f"import {name}" for name in ("math", "operator") if any(f"{name}." in line for line in body)}
        standard = sorted({*own, "from pathlib import Path"}, key=lambda line: (line.startswith("from"), line))
        return "\n".join(
            [
                f'"""{plain(title)}\n\nThe weights lie beside this file; load() gives the model with them.\n"""',
                "",
                "from __future__ import annotations",
                "",
                *standard,
                "",
                "import torch",
                "from safetensors.torch import load_file",
                "from torch import Tensor, nn",
                *(["from torch.nn import functional as F"] if any("F." in line for line in body) else []),
                "",
                "",
                *body,
            ]
        )

    def _learn(self, layer: nn.Module) -> None:
        """Take in the functions and classes of a layer, so that no variable gets their names."""
        if isinstance(layer, (WithoutGradient, Inline)) and isinstance(layer.body, GraphModule):
            for step in layer.body.steps:
                self._learn(layer.body.get_submodule(step.layer))
        elif isinstance(layer, Function):
            self._function(layer.function)
        elif not isinstance(layer, Operation):
            self._kind(type(layer))

    def _function(self, function: Callable[..., Any]) -> str:
        name = getattr(function, "__name__", "")
        for space, holder in _SPACES.items():
            if getattr(holder, name, None) is function:
                return f"{space}.{name}"
        return self._sources.add(function)

    def _kind(self, kind: type) -> str:
        return f"nn.{kind.__name__}" if getattr(nn, kind.__name__, None) is kind else self._sources.add(kind)

    def _attribute(self, name: str) -> str:
        """A name for an attribute, from that of a layer or weight in the graph."""
        found = re.sub(r"\W", "_", name, flags=re.ASCII)
        found = f"layer_{found}" if not found[:1].isalpha() else found
        while found in self._attributes.values() or keyword.iskeyword(found) or hasattr(nn.Module, found):
            found += "_"
        return found

    def _names_of_held(self) -> dict[int, str]:
        """Write the constructor, and return how each held tensor is reached."""
        for step in self._module.steps:
            layer = self._module.get_submodule(step.layer)
            if step.layer in self._attributes or isinstance(layer, (Function, Operation, WithoutGradient, Inline)):
                continue
            attribute = self._attribute(step.layer)
            self._attributes[step.layer] = attribute
            self._init.append(f"self.{attribute} = {self._constructor(layer)}")
            self._keep(attribute, layer)
        if any(isinstance(layer, Operation) and hasattr(layer, "anchor") for layer in self._module.modules()):
            anchor = next(layer.anchor for layer in self._module.modules() if hasattr(layer, "anchor"))
            self._attributes["anchor"] = "anchor"
            self._init.append(f'self.register_buffer("anchor", torch.empty(0, dtype={anchor.dtype}), persistent=False)')
        reached = {}
        for name, value in self._module._held:
            parent, _, last = name.rpartition(".")
            if parent in self._attributes:
                reached[value] = f"self.{self._attributes[parent]}.{last}"
                continue
            tensor = getattr(self._module.get_submodule(parent), last)
            attribute = self._attribute(name)
            self._attributes[f"{name} "] = attribute
            empty = f"torch.empty({tuple(tensor.shape)}, dtype={tensor.dtype})"
            if isinstance(tensor, nn.Parameter):
                grad = "" if tensor.requires_grad else ", requires_grad=False"
                self._init.append(f"self.{attribute} = nn.Parameter({empty}{grad})")
            else:
                self._init.append(f'self.register_buffer("{attribute}", {empty})')
            self._weight(attribute, tensor)
            reached[value] = f"self.{attribute}"
        return reached

    def _keep(self, attribute: str, layer: nn.Module) -> None:
        for key, parameter in layer.named_parameters(recurse=False):
            self._weight(f"{attribute}.{key}", parameter)
            if not parameter.requires_grad:
                self._init.append(f"self.{attribute}.{key}.requires_grad_(False)")
        for key, buffer in layer.named_buffers(recurse=False):
            if key not in layer._non_persistent_buffers_set:
                self._weight(f"{attribute}.{key}", buffer)

    def _weight(self, path: str, tensor: Tensor) -> None:
        first = self._first.setdefault(id(tensor), path)
        if first != path:
            self._ties.append(f"model.{path} = model.{first}")
        self.state[path] = tensor.detach().clone() if first != path else tensor.detach()

    def _constructor(self, layer: nn.Module) -> str:
        kind = self._kind(type(layer))
        if isinstance(layer, nn.RNNBase):
            extra = {nn.LSTM: "proj_size", nn.RNN: "nonlinearity"}
            names = [*_TORCH_RNN, *(name for base, name in extra.items() if isinstance(layer, base))]
            return f"{kind}({', '.join(f'{name}={_value(getattr(layer, name))}' for name in names)})"
        given = []
        for parameter in inspect.signature(type(layer)).parameters.values():
            several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if several or parameter.name in ("device", "dtype") or parameter.name.startswith("_"):
                continue
            if not hasattr(layer, parameter.name):
                if parameter.default is parameter.empty:
                    raise ModelError(f"a layer {type(layer).__name__} cannot be written as code; write a .pt2 file.")
                continue
            value = getattr(layer, parameter.name)
            if parameter.name in ("weight", "bias") and parameter.default is parameter.empty:
                text = "None" if value is None else f"nn.Parameter(torch.empty({tuple(value.shape)}))"
            else:
                value = value is not None if parameter.name == "bias" else value
                text = _value(value)
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                given.append(text)
            elif value != parameter.default:
                given.append(f"{parameter.name}={text}")
        return f"{kind}({', '.join(given)})"

    def _forward(self) -> None:
        self._used = {*self._sources.names}
        variables = {}
        self._inputs = []
        for name, value in zip(self._module.input_names, self._module._inputs, strict=True):
            variables[value] = self._variable(name)
            self._inputs.append(variables[value])
        variables |= self._held
        self._steps(self._module, variables, "")
        outputs = ", ".join(variables[value] for value in self._module._outputs)
        self._run.append(f"return {outputs}")

    def _variable(self, name: str) -> str:
        found = re.sub(r"\W", "_", name, flags=re.ASCII)
        found = f"v_{found}" if not found[:1].isalpha() else found
        unique, number = found, 2
        while unique in self._used or keyword.iskeyword(unique):
            unique, number = f"{found}_{number}", number + 1
        self._used.add(unique)
        return unique

    def _steps(self, module: GraphModule, variables: dict[int, str], indent: str) -> None:
        for step in module.steps:
            layer = module.get_submodule(step.layer)
            takes = ["None" if value is None else variables[value] for value in step.takes]
            if isinstance(layer, (WithoutGradient, Inline)) and isinstance(layer.body, GraphModule):
                made = self._part(layer, layer.body, takes, indent)
                variables |= dict(zip(step.makes, made, strict=False))
                continue
            names = [self._variable(step.layer if len(step.makes) == 1 else f"{step.layer}_{k}")
                     for k in range(len(step.makes))]  # fmt: skip
            variables |= dict(zip(step.makes, names, strict=True))
            left = names[0] if len(names) == 1 and not self._listed(layer) else f"({', '.join(names)},)"
            self._run.append(f"{indent}{left} = {self._expression(step, layer, takes)}")

    def _listed(self, layer: nn.Module) -> bool:
        """Whether a layer with one result gives it in a tuple."""
        return isinstance(layer, Operation) and "[]" in str(_returns(layer)) and "Tensor[]" in str(_returns(layer))

    def _part(self, layer: nn.Module, body: GraphModule, takes: Sequence[str], indent: str) -> list[str]:
        inner = dict(zip(body._inputs, takes, strict=True))
        if body._held or any(True for part in body.modules() for _ in part.parameters(recurse=False)):
            raise ModelError("a part of the program with weights of its own cannot be written as code; write a .pt2.")
        if isinstance(layer, WithoutGradient):
            self._run.append(f"{indent}with torch.no_grad():")
            indent += "    "
        self._steps(body, inner, indent)
        return [inner[value] for value in body._outputs]

    def _expression(self, step: Step, layer: nn.Module, takes: Sequence[str]) -> str:
        if isinstance(layer, Operation):
            filled = [_filled(argument, takes) for argument in layer.arguments]
            filled += [f"{_keyword(key)}={_filled(value, takes)}" for key, value in layer.keywords.items()]
            target = layer.target
            if target in PYTHON:
                target = target.removeprefix("_")
            return f"{target}({', '.join(filled)})"
        if isinstance(layer, Function):
            settings = [f"{_keyword(key)}={_value(value)}" for key, value in layer.settings.items()]
            return f"{self._function(layer.function)}({', '.join([*takes, *settings])})"
        if step.layer not in self._attributes:
            raise ModelError(
                f"the layer {step.layer!r} ({type(layer).__name__}) cannot be written as code; write a .pt2."
            )
        return f"self.{self._attributes[step.layer]}({', '.join(takes)})"


def plain(words: str) -> str:
    """Words of a file without what could end a docstring: names in model files may be anything."""
    return re.sub(r"[^\w .,:/?&=()-]", "_", words)


def _keyword(key: str) -> str:
    if not key.isidentifier() or keyword.iskeyword(key):
        raise ModelError(f"a setting called {key!r:.60} cannot be written as code; write a .pt2 file instead.")
    return key


def _returns(layer: Operation) -> str:
    found = layer.target.split(".")
    if len(found) != 5:
        return ""
    schema = getattr(getattr(getattr(torch.ops, found[2]), found[3]), found[4])._schema
    return ", ".join(str(value.type) for value in schema.returns).replace("List[Tensor]", "Tensor[]")


def _filled(template: Any, takes: Sequence[str]) -> str:
    if isinstance(template, Slot):
        return takes[template.index]
    if isinstance(template, Here):
        return f"self.anchor.{template.what}"
    if isinstance(template, (list, tuple)):
        return f"[{', '.join(_filled(part, takes) for part in template)}]"
    return _value(template)


def _value(value: Any) -> str:
    """A setting as Python writes it."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    plain = (int, float, bool, str, complex, type(None), torch.dtype, torch.layout, torch.memory_format)
    if not isinstance(value, plain):
        raise ModelError(f"the setting {value!r:.60} cannot be written as code; write a .pt2 file instead.")
    return repr(value)
