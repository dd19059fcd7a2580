"""From nodes to a module: an operator table says for every node which layer or function it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import FileError, ModelError, PellucidError
from pellucid.models.files import reason
from pellucid.models.graph.module import Function, GraphModule, Step
from pellucid.models.graph.names import Names
from pellucid.models.graph.nodes import Graph, Node, Ref, Value

MOST_FOLDED = 2**26  # elements of a constant that a file may ask for beyond the size of what it is made from

Build = Callable[["Call"], "Value | Sequence[Value]"]
Table = Mapping[str, Build]


class Call:
    """One node while it becomes part of a module: what an entry of an operator table is given.

    Args:
        assembly: where layers are put.
        node: the node.
        inputs: its inputs, as far as given; see :meth:`input` for optional ones.
    """

    def __init__(self, assembly: Assembly, node: Node, inputs: tuple[Value | None, ...]) -> None:
        self.node = node
        self.inputs = inputs
        self._assembly = assembly

    @property
    def where(self) -> str:
        """The node in words, for errors."""
        return f"the node {self.node.name!r} ({self.node.op})"

    def input(self, index: int) -> Value:
        """An input that must be there.

        Raises:
            FileError: it is left out.
        """
        found = self.optional(index)
        if found is None:
            raise FileError(f"{self.where} must have an input {index}, but has {len(self.inputs)} inputs.")
        return found

    def optional(self, index: int) -> Value | None:
        """An input, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def known(self, index: int) -> Tensor:
        """The numbers of an input that must be known while loading.

        Raises:
            ModelError: a forward makes it.
        """
        value = self.input(index)
        if value.tensor is None:
            raise ModelError(
                f"{self.where} takes its input {index} from {value.name!r}, which only a forward makes; here it must "
                "be in the file."
            )
        return value.tensor

    def apply(self, function: Callable[..., Any], *values: Value | None, label: str = "", **settings: Any) -> Value:
        """Add a function of ``values``; a function of known values is computed at once.

        Args:
            function: of tensors (None for values left out) and ``settings``, giving a tensor; it must be a function of
                a module, so that the model can be saved.
            values: what it takes.
            label: added to the node's name, for all but the step that ends the node.
            settings: passed by name.
        """
        return self._assembly.add(self.node, Function(function, settings), values, label, 1)[0]

    def apply_many(
        self, function: Callable[..., Any], *values: Value | None, outputs: int, label: str = "", **settings: Any
    ) -> list[Value]:
        """Add a function that gives a tuple of ``outputs`` tensors; see :meth:`apply`."""
        return self._assembly.add(self.node, Function(function, settings), values, label, outputs)

    def layer(self, make: Callable[[], nn.Module], *values: Value | None, label: str = "", key: Any = None) -> Value:
        """Add a layer, or call again the one that an earlier node made with the same ``key``.

        Args:
            make: builds the layer.
            values: what it takes.
            label: as in :meth:`apply`.
            key: what makes two nodes one layer: settings and weights. Values count by identity.
        """
        return self._assembly.add(self.node, make, values, label, 1, key)[0]

    def layer_many(
        self, make: Callable[[], nn.Module], *values: Value | None, outputs: int, label: str = ""
    ) -> list[Value]:
        """Add a layer that gives a tuple of ``outputs`` tensors; see :meth:`layer`."""
        return self._assembly.add(self.node, make, values, label, outputs)

    def body(self, index: int, known: Mapping[str, Value] | None = None) -> GraphModule:
        """The subgraph ``index`` as a module of its own, its variables as inputs.

        Args:
            index: which.
            known: variables whose numbers are known, which are then no inputs.

        Raises:
            FileError: there is none.
        """
        if index >= len(self.node.subgraphs):
            raise FileError(f"{self.where} must hold a subgraph {index}, but holds {len(self.node.subgraphs)}.")
        graph = self.node.subgraphs[index]
        given = dict(known or {})
        tensors = {name: value.tensor for name, value in given.items() if value.tensor is not None}
        return assemble(
            graph,
            tensors,
            self._assembly.table,
            kind=self._assembly.kind,
            learned=lambda name: given[name].learned,
            keep_inputs=True,
            nested=self._assembly.nested,
        )


class Assembly:
    """Collects the layers and steps of one module."""

    def __init__(self, table: Table, kind: str, *, nested: bool = False) -> None:
        self.table = table
        self.kind = kind
        self.nested = nested
        self.layers: dict[str, nn.Module] = {}
        self.calls: list[tuple[str, tuple[Value | None, ...], tuple[Value, ...]]] = []
        self.names = Names(taken=_Taken(), nested=nested)
        self._shared: dict[Any, str] = {}

    def add(
        self,
        node: Node,
        layer: nn.Module | Callable[[], nn.Module],
        values: Sequence[Value | None],
        label: str,
        outputs: int,
        key: Any = None,
    ) -> list[Value]:
        """Add a call of ``layer`` to the module, or compute it where all that it takes is known."""
        name = f"{node.name}_{label}" if label else node.name
        if isinstance(layer, Function) and all(value is None or value.tensor is not None for value in values):
            folded = _folded(layer, [None if value is None else value.tensor for value in values])
            learned = any(value is not None and value.learned for value in values)
            parts = [folded] if isinstance(folded, Tensor) else folded
            return [Value(name, tensor, learned and tensor.is_floating_point()) for tensor in parts]
        place = self._shared.get(key) if key is not None else None
        if place is None:
            place = self.names(name)
            self.layers[place] = layer if isinstance(layer, nn.Module) else layer()
            if key is not None:
                self._shared[key] = place
        made = [Value(name) for _ in range(outputs)]
        self.calls.append((place, tuple(values), tuple(made)))
        return made

    def finish(
        self, inputs: Sequence[Value], outputs: Sequence[tuple[str, Value]], batch: int | None = None
    ) -> GraphModule:
        """The module; steps that no output needs are left out."""
        wanted = {id(value) for _, value in outputs}
        needed = []
        for call in reversed(self.calls):
            if getattr(self.layers[call[0]], "mutates", False) or any(id(value) in wanted for value in call[2]):
                needed.append(call)
                wanted.update(id(value) for value in call[1] if value is not None)
        kept = {call[0] for call in needed}
        numbers: dict[int, int] = {}
        held: list[tuple[str, int]] = []
        tensors: dict[str, Tensor] = {}

        def number(value: Value) -> int:
            if id(value) not in numbers:
                numbers[id(value)] = len(numbers)
                if value.tensor is not None:
                    made = as_parameter(value) if value.learned else value.tensor
                    parent, _, last = value.name.rpartition(".")
                    layer = self.layers[parent] if parent in kept else None
                    name = value.name
                    if getattr(layer, last, None) is not made:
                        name = self.names(f"{name}_" if hasattr(layer, last) else name)
                        tensors[name] = made
                    held.append((name, numbers[id(value)]))
            return numbers[id(value)]

        given = [(self.names(value.name), number(value)) for value in inputs]
        results = [(name, number(value)) for name, value in outputs]
        calls = [
            (layer, tuple(None if value is None else number(value) for value in takes), tuple(map(number, makes)))
            for layer, takes, makes in reversed(needed)
        ]
        last: dict[int, int] = {}
        for index, (_, takes, makes) in enumerate(calls):
            last |= {place: index for place in (*takes, *makes) if place is not None}
        for _, place in results:
            last.pop(place, None)
        ends: dict[int, list[int]] = {}
        for place, index in last.items():
            ends.setdefault(index, []).append(place)
        steps = [Step(*call, frees=tuple(ends.get(index, ()))) for index, call in enumerate(calls)]
        layers = {step.layer: self.layers[step.layer] for step in steps}
        return GraphModule(layers, steps, inputs=given, held=held, tensors=tensors, outputs=results, batch=batch)


def assemble(
    graph: Graph,
    tensors: MutableMapping[str, Tensor],
    table: Table,
    *,
    kind: str,
    learned: Callable[[str], bool] = lambda _: True,
    ignored: frozenset[int] = frozenset(),
    keep_inputs: bool = False,
    nested: bool = False,
    batch: int | None = None,
) -> GraphModule:
    """Put the module together.

    Args:
        graph: the nodes; variables without an entry in ``tensors`` are inputs.
        tensors: the weights by variable name; emptied on the way, so that no weight is held twice.
        table: operator -> how it is built.
        kind: the format, for errors.
        learned: whether the weight of this name is trained, or a constant.
        ignored: variables (places) that are no inputs though they have no value: labels of a loss.
        keep_inputs: whether variables that nothing uses are inputs too.
        nested: whether dots in names are paths of modules in modules.
        batch: the only number of samples that the graph works for, if there is one.

    Raises:
        ModelError: operators are not in the table; the text lists all of them.
    """
    reached = graph.reached()
    _refuse_unknown(graph, reached, table, kind)
    assembly = Assembly(table, kind, nested=nested)
    # Two nodes of one name without an operator are the same variable.
    slots = [place if node.op else node.name for place, node in enumerate(graph.nodes)]
    uses = Counter(slots[place] for place, _ in graph.heads)
    for place in reached:
        uses.update(slots[ref[0]] for ref in graph.nodes[place].inputs if ref is not None)
    inputs: list[Value] = []
    values: dict[int | str, Sequence[Value]] = {}
    for place, node in enumerate(graph.nodes):
        used = place in reached or (keep_inputs and not node.op)
        if not used or place in ignored or slots[place] in values:
            continue
        if not node.op:
            tensor = tensors.pop(node.name, None)
            floating = tensor is not None and tensor.is_floating_point()
            values[node.name] = [Value(node.name, tensor, floating and learned(node.name))]
            if tensor is None:
                inputs.extend(values[node.name])
            continue
        given = tuple(
            None if ref is None or ref[0] in ignored else _output(node, ref, values[slots[ref[0]]])
            for ref in node.inputs
        )
        values[place] = _built(Call(assembly, node, given), table[node.op])
        uses.subtract(slots[ref[0]] for ref in node.inputs if ref is not None)
        for ref in node.inputs:
            if ref is not None and uses[slots[ref[0]]] == 0:
                values.pop(slots[ref[0]], None)  # weights that were only computed with need no memory any more
    names = graph.names or tuple(graph.nodes[place].name for place, _ in graph.heads)
    results = [_output(graph.nodes[head[0]], head, values[slots[head[0]]]) for head in graph.heads]
    return assembly.finish(inputs, list(zip(names, results, strict=True)), batch)


def as_parameter(value: Value) -> nn.Parameter:
    """The one parameter that holds a known floating value."""
    assert value.tensor is not None
    if value.parameter is None:
        value.parameter = nn.Parameter(_own(value.tensor.detach()))
        value.tensor = value.parameter.detach()
    return value.parameter


def _own(tensor: Tensor) -> Tensor:
    """The tensor with storage for itself alone: a view of a larger one would keep, and save, all of that."""
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole and tensor.is_contiguous() else tensor.clone(memory_format=torch.contiguous_format)


class _Taken:
    """Names that a module cannot give to a layer, since they mean something on every module."""

    def __contains__(self, name: object) -> bool:
        return hasattr(GraphModule, str(name)) or str(name) in _ATTRIBUTES


_ATTRIBUTES = frozenset(vars(GraphModule({}, (), inputs=(), outputs=())))


def _output(node: Node, ref: Ref, made: Sequence[Value]) -> Value:
    if ref[1] >= len(made):
        raise FileError(f"the node {node.name!r} takes output {ref[1]} of {made[0].name!r}, which has {len(made)}.")
    return made[ref[1]]


def _built(call: Call, build: Build) -> Sequence[Value]:
    try:
        made = build(call)
    except PellucidError:
        raise
    except (ValueError, TypeError, RuntimeError, IndexError, KeyError, OverflowError, ArithmeticError) as error:
        # Settings that no such layer can have, in a file that is otherwise readable.
        raise FileError(f"{call.where} cannot be built: {reason(error)[:300]}.") from error
    return [made] if isinstance(made, Value) else made


def _folded(layer: Function, tensors: Sequence[Tensor | None]) -> Any:
    """Compute a function of known values, unless the result were out of proportion to what the file holds."""
    given = sum(tensor.numel() for tensor in tensors if tensor is not None)
    if _reach(layer, tensors) <= MOST_FOLDED:
        with torch.no_grad():
            return layer(*tensors)
    with torch.no_grad():
        try:
            with torch.device("meta"):  # where tensors made of numbers alone take no memory either
                shapes = layer(*(None if tensor is None else tensor.to("meta") for tensor in tensors))
        except (RuntimeError, NotImplementedError):  # it needs the numbers themselves
            shapes = ()
        results = shapes if isinstance(shapes, (tuple, list)) else (shapes,)
        size = sum(result.numel() for result in results)
        if size > MOST_FOLDED + 4 * given:
            raise FileError(f"{layer!r} would make a constant of {size:,} numbers from {given:,}, so it is refused.")
        return layer(*tensors)


def _reach(layer: Function, tensors: Sequence[Tensor | None]) -> float:
    """How large a result of these operands and settings can be at most: cheaper than torch's trial without numbers."""
    settings = list(_numbers(layer.settings.values()))
    grown = math.prod(max(abs(number), 1 / abs(number)) + 1 for number in settings if number and abs(number) != 1)
    return math.prod(max(tensor.numel(), 1) for tensor in tensors if tensor is not None) * grown


def _numbers(values: Iterable[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _numbers(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield value


def _refuse_unknown(graph: Graph, reached: frozenset[int], table: Table, kind: str) -> None:
    unknown: dict[str, list[str]] = {}
    waiting = [graph.nodes[place] for place in sorted(reached, reverse=True)]
    while waiting:
        node = waiting.pop()
        if node.op and node.op not in table:
            unknown.setdefault(node.op, []).append(node.name)
        waiting.extend(body.nodes[place] for body in node.subgraphs for place in body.reached())
    if unknown:
        listed = "; ".join(
            f"{op} ({', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})"
            for op, names in unknown.items()
        )
        raise ModelError(
            f"{len(unknown)} operators of this {kind} model are not known here: {listed}. Add each with "
            f'pellucid.models.register_operator("{kind}", "{next(iter(unknown))}", function), or leave them out by '
            "naming earlier nodes as outputs: ?outputs=NODE,NODE."
        )
