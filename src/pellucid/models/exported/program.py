"""A serialised program as a graph: which operator takes which values and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import FileError, ModelError
from pellucid.models.exported.archive import DTYPES, Archive
from pellucid.models.exported.operation import Here, Slot, mutates
from pellucid.models.graph.nodes import Graph, Node, Ref

MOST_NODES = 10**6
DEEPEST = 8  # parts within parts
EXPECT = "pellucid.expect_shape"
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_OF_SEVERAL = tuple(
    f"torch.nn.modules.{part}" for part in ("activation.Multihead", "transformer.", "container.", "rnn.")
)
"""Modules of torch that run several operations each."""
_PLAIN = {"as_int": int, "as_bool": bool, "as_string": str}
_LISTS = {"as_ints": int, "as_bools": bool, "as_strings": str}
_SYMBOLIC = ("as_sym_int", "as_sym_bool", "as_sym_float")


class Program:
    """Reads the program of an archive.

    Args:
        archive: with the tensors that it refers to.
        origin: the file, for errors.

    Raises:
        FileError: it is damaged, or of a kind that torch does not write.
        ModelError: it changes its own weights as it runs.
    """

    def __init__(self, archive: Archive, origin: str) -> None:
        self._origin = origin
        self._metas: dict[str, Any] = {}
        content = archive.program.get("graph_module")
        graph, signature = (self._part(content, key, dict) for key in ("graph", "signature"))
        inputs, specs = self._part(graph, "inputs", list), self._part(signature, "input_specs", list)
        if len(inputs) != len(specs):
            raise self._broken(f"{len(inputs)} inputs and {len(specs)} descriptions of them")
        self.learned: set[str] = set()
        self.buffers: set[str] = set()
        self.tensors: dict[str, Tensor] = {}
        self._variables(specs, archive)
        self._float = self._main_type()
        self._returned: list[Any] = []
        for spec in self._part(signature, "output_specs", list):
            kind, held = self._union(spec, "an output")
            if kind.endswith("mutation"):
                raise ModelError(
                    f"{self._origin} changes its own weights or inputs as it runs ({kind.replace('_', ' ')}); export "
                    "the model in evaluation mode: model.eval()."
                )
            if kind == "user_output":
                self._returned.append(self._part(held, "arg", dict))
        self.graph = self._graph(graph, self._names, depth=0)

    def _variables(self, specs: list[Any], archive: Archive) -> None:
        """Note what each input of the graph is: a weight under its own name, or an input of the model."""
        first: dict[int, str] = {}  # of two names of one tensor, the first is used
        self._names: dict[str, str] = {}
        taken = {*archive.weights, *archive.constants}
        self.inputs: list[str] = []
        for spec in specs:
            kind, held = self._union(spec, "an input")
            if kind in ("parameter", "buffer", "tensor_constant"):
                name = self._part(held, f"{kind}_name", str)
                source = archive.constants if name in archive.constants else archive.weights
                if name not in source:
                    raise FileError(f"{self._origin} has no {kind} {name!r:.80}, which its program takes.")
                known = first.setdefault(id(source[name]), name)
                self.tensors[known] = source[name]
                (self.learned if kind == "parameter" else self.buffers).add(known)
                self._names[self._part(self._part(held, "arg", dict), "name", str)] = known
            elif kind == "user_input":
                sort, argument = self._union(self._part(held, "arg", dict), "an input")
                if sort == "as_tensor":
                    given = self._part(argument, "name", str)
                    name = given if given not in taken else f"{given}_"
                    self._names[given] = name
                    self.inputs.append(name)
            elif kind != "constant_input":
                raise ModelError(f"{self._origin} takes {kind.replace('_', ' ')}s, which cannot be had without pickle.")

    def _main_type(self) -> torch.dtype:
        counts: Counter[torch.dtype] = Counter()
        for tensor in self.tensors.values():
            if tensor.is_floating_point():
                counts[tensor.dtype] += tensor.numel()
        return counts.most_common(1)[0][0] if counts else torch.float32

    def _graph(self, content: Any, names: Mapping[str, str], *, depth: int) -> Graph:
        if depth > DEEPEST:
            raise FileError(f"{self._origin} holds parts within parts, more than {DEEPEST} deep.")
        self._metas = self._part(content, "tensor_values", dict)
        places: dict[str, Ref] = {}
        nodes: list[Node] = []
        for item in self._part(content, "inputs", list):
            kind, held = self._union(item, "an input")
            if kind in ("as_tensor", *_SYMBOLIC):
                given = self._part(held, "name" if kind == "as_tensor" else "as_name", str)
                places[given] = (len(nodes), 0)
                nodes.append(Node("", names.get(given, given)))
                if not depth and names.get(given) in self.inputs:
                    self._expect(nodes, places, given)
        entries = self._part(content, "nodes", list)
        if len(entries) > MOST_NODES:
            raise FileError(f"{self._origin} holds {len(entries):,} operations; at most {MOST_NODES:,} are read.")
        effects = []
        for entry in entries:
            node, made = self._node(entry, nodes, places, depth)
            if mutates(node.op):
                self._refuse_written_weight(node, nodes)
                effects.append(len(nodes))
            places |= {name: (len(nodes), output) for output, name in enumerate(made) if name is not None}
            nodes.append(node)
        listed = self._returned if not depth else self._part(content, "outputs", list)
        heads = []
        for item in listed:
            kind, held = self._union(item, "an output")
            if kind == "as_tensor":
                heads.append(self._ref(held, places))
            elif depth:
                raise ModelError(f"{self._origin}: a part of the program gives {kind[3:]}, not tensors alone.")
        if not heads:
            raise ModelError(f"{self._origin} gives no tensor.")
        return Graph(tuple(nodes), tuple(heads), tuple(effects))

    def _expect(self, nodes: list[Node], places: dict[str, Ref], given: str) -> None:
        """Add a check of an input's shape where the program fixes one."""
        meta = self._metas.get(given)
        sizes = tuple(
            size.get("as_int") if isinstance(size, dict) else None for size in self._part(meta, "sizes", list)
        )
        if any(size is not None for size in sizes):
            settings = {"name": nodes[-1].name, "sizes": sizes}
            nodes.append(Node(EXPECT, f"{nodes[-1].name}_shape", (places[given],), settings))
            places[given] = (len(nodes) - 1, 0)

    def _node(
        self, entry: Any, nodes: list[Node], places: Mapping[str, Ref], depth: int
    ) -> tuple[Node, list[str | None]]:
        """A node, and the name of each of its outputs (None: it is no tensor or number)."""
        target = self._part(entry, "target", str)
        if not target:
            raise self._broken("an operation without a name")
        refs: list[Ref] = []
        bodies: list[Graph] = []
        arguments: list[Any] = []
        keywords: dict[str, Any] = {}
        labels: list[str] = []
        for item in self._part(entry, "inputs", list):
            label = self._part(item, "name", str)
            kind, held = self._union(self._part(item, "arg", dict), "an argument")
            if kind == "as_graph":
                outer = self._metas
                bodies.append(self._graph(self._part(held, "graph", dict), {}, depth=depth + 1))
                self._metas = outer
                continue
            value = self._argument(kind, held, places, refs)
            if item.get("kind") == 2:
                keywords[label] = value
            else:
                arguments.append(value)
                labels.append(label)
        made: list[str | None] = []
        for item in self._part(entry, "outputs", list):
            kind, held = self._union(item, "an output")
            made.extend(self._made(kind, held))
        settings = {"arguments": tuple(arguments), "labels": tuple(labels), "keywords": keywords, "outputs": len(made)}
        weights = {nodes[ref[0]].name.rpartition(".")[0] for ref in refs if nodes[ref[0]].name in self.learned}
        return Node(target, self._name(entry, target, weights), tuple(refs), settings, tuple(bodies)), made

    def _made(self, kind: str, held: Any) -> list[str | None]:
        if kind == "as_tensor":
            return [self._part(held, "name", str)]
        if kind == "as_tensors" and isinstance(held, list):
            return [self._part(part, "name", str) for part in held]
        if kind in _SYMBOLIC and isinstance(held, dict) and isinstance(held.get("as_name"), str):
            return [held["as_name"]]
        if kind == "as_none" or kind in _SYMBOLIC:
            return [None]
        raise self._broken(f"an operation that gives {kind[:40]}")

    def _name(self, entry: dict[str, Any], target: str, weights: set[str]) -> str:
        """The module that ran, as the model's author named it, else the operation within it."""
        own = entry.get("name")
        name = own if isinstance(own, str) and own else target
        noted = entry.get("metadata")
        stack = noted.get("nn_module_stack") if isinstance(noted, dict) else None
        parts = stack.rpartition(";")[2].split(",") if isinstance(stack, str) else []
        if len(parts) != 3 or "empty_nn_module_stack" in parts[1] or not parts[1]:
            return name
        single = parts[2].startswith("torch.nn.modules.") and not parts[2].startswith(_OF_SEVERAL)
        return parts[1] if single or parts[1] in weights else f"{parts[1]}.{name}"

    def _argument(self, kind: str, held: Any, places: Mapping[str, Ref], refs: list[Ref]) -> Any:
        def slot(part: Any) -> Slot:
            refs.append(self._ref(part, places))
            return Slot(len(refs) - 1)

        def either(part: Any) -> Any:
            """A number, or the name of one that is computed."""
            sort, inner = self._union(part, "an argument")
            return slot({"name": inner}) if sort == "as_name" else self._argument(sort, inner, places, refs)

        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return slot(held)
        if kind in _SYMBOLIC or kind == "as_optional_tensor":
            return either(held)
        if kind in _PLAIN and type(held) is _PLAIN[kind]:
            return held
        if kind == "as_float":
            return self._number(held)
        if kind == "as_complex":
            return complex(self._number(held.get("real")), self._number(held.get("imag")))
        if kind == "as_scalar_type" and isinstance(held, int) and held in DTYPES:
            return Here("dtype", self._float) if DTYPES[held] == self._float else DTYPES[held]
        if kind == "as_memory_format" and isinstance(held, int) and held in _MEMORY_FORMATS:
            return _MEMORY_FORMATS[held]
        if kind == "as_layout" and held == 7:
            return torch.strided
        if kind == "as_device":
            return Here("device")
        if not isinstance(held, list):
            raise self._broken(f"an argument {kind[:40]} of {held!r:.60}")
        if kind in _LISTS and all(type(part) is _LISTS[kind] for part in held):
            return held
        if kind == "as_floats":
            return [self._number(part) for part in held]
        if kind in ("as_tensors",):
            return [slot(part) for part in held]
        if kind in ("as_sym_ints", "as_sym_bools", "as_sym_floats", "as_optional_tensors"):
            return [either(part) for part in held]
        raise self._broken(f"an argument {kind[:40]} of {held!r:.60}")

    def _number(self, held: Any) -> float:
        words = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
        if type(held) in (int, float):
            return float(held)
        if isinstance(held, str) and held in words:
            return words[held]
        raise self._broken(f"the number {held!r:.60}")

    def _ref(self, held: Any, places: Mapping[str, Ref]) -> Ref:
        name = self._part(held, "name", str)
        if name not in places:
            raise self._broken(f"a use of {name!r:.60} before it is made")
        return places[name]

    def _refuse_written_weight(self, node: Node, nodes: list[Node]) -> None:
        for written, _ in (ref for ref in node.inputs[:1] if ref is not None):
            if not nodes[written].op and nodes[written].name in self.tensors:
                raise ModelError(
                    f"{self._origin} writes into its own {nodes[written].name!r} as it runs; export the model in "
                    "evaluation mode: model.eval()."
                )

    def _part(self, held: Any, key: str, kind: type) -> Any:
        found = held.get(key) if isinstance(held, dict) else None
        if not isinstance(found, kind):
            raise self._broken(f"no {kind.__name__} {key!r} where one belongs")
        return found

    def _union(self, held: Any, what: str) -> tuple[str, Any]:
        if not isinstance(held, dict) or len(held) != 1:
            raise self._broken(f"{what} that is {held!r:.60}")
        return next(iter(held.items()))

    def _broken(self, what: str) -> FileError:
        return FileError(f"{self._origin} is a damaged program: it holds {what}.")
