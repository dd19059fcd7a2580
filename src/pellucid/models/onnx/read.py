"""From the messages of protobuf to a graph: names become places, functions are written out where they are called."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pellucid.errors import FileError, ModelError
from pellucid.models.graph.nodes import Graph, Node, Ref
from pellucid.models.onnx.attributes import GRAPH, python_value

OLDEST = 7  # of ONNX's operator sets
MOST_NODES = 300_000
DEEPEST = 12  # functions within functions, graphs within graphs
TENSOR = "value"
"""The setting that holds a constant's numbers."""
CAPTURED = "captured"
"""The setting that names what each subgraph of a node takes from around it; these values follow the node's inputs."""

Settings = Mapping[str, Any]


class Reader:
    """Reads the graph of a model.

    Args:
        model: a ``ModelProto``.
        tensor: reads the tensors that are settings of nodes.
        origin: the file, for errors.
    """

    def __init__(self, model: Any, tensor: Callable[[Any], Tensor], origin: str) -> None:
        self.origin = origin
        self._model = model
        self._tensor = tensor
        self._functions = {(made.domain, made.name, made.overload): made for made in model.functions}
        self._weights = {proto.name for proto in model.graph.initializer}
        self._count = 0
        self.scope = _Scope([], None, self)

    def graph(self, outputs: Sequence[str] = ()) -> Graph:
        """The main graph.

        Args:
            outputs: values or nodes whose results are its outputs in place of its own.

        Raises:
            FileError: the graph cannot be run.
            InputError: no value and no node has one of these names.
            ModelError: it was written for operators older than version 7, or holds something that is not known.
        """
        graph, scope = self._model.graph, self.scope
        if graph.sparse_initializer:
            raise ModelError(f"{self.origin} holds sparse weights, which are not known here.")
        self._texts(*(value.name for value in (*graph.input, *graph.output, *graph.initializer)))
        versions = self._versions(self._model.opset_import)
        for name in dict.fromkeys([*(value.name for value in graph.input), *(part.name for part in graph.initializer)]):
            scope.names[name] = scope.put(Node("", name))
        self._nodes(graph.node, scope, versions, {}, prefix="", depth=0)
        if outputs:
            return Graph(tuple(scope.nodes), tuple(self._chosen(name) for name in outputs), names=tuple(outputs))
        names = tuple(value.name for value in graph.output)
        if not names:
            raise FileError(f"{self.origin} names no outputs.")
        return Graph(tuple(scope.nodes), tuple(self._present(scope, name) for name in names), names=names)

    def _chosen(self, name: str) -> Ref:
        found = self.scope.names.get(name)
        if found is not None:
            return found
        for place, node in enumerate(self.scope.nodes):
            if node.op and node.name == name:
                return place, 0
        import difflib

        from pellucid.errors import InputError

        known = [*self.scope.names, *(node.name for node in self.scope.nodes if node.op)]
        near = difflib.get_close_matches(name, known, n=5) or known[-5:]
        raise InputError(f"{self.origin} has no value or node {name!r}. Near ones: {', '.join(near)}.")

    def _versions(self, imports: Iterable[Any]) -> dict[str, int]:
        versions = {("" if entry.domain == "ai.onnx" else entry.domain): entry.version for entry in imports}
        if versions.get("", OLDEST) < OLDEST:
            raise ModelError(
                f"{self.origin} is written for version {versions['']} of ONNX's operators; {OLDEST} and newer are "
                "read. Bring it up to date with onnx.version_converter.convert_version(model, 13)."
            )
        return versions

    def _nodes(
        self,
        protos: Iterable[Any],
        scope: _Scope,
        versions: Mapping[str, int],
        given: Settings,
        prefix: str,
        depth: int,
    ) -> None:
        """Add nodes to a scope; ``given`` are the settings of the function that they belong to."""
        if depth > DEEPEST:
            raise FileError(f"{self.origin} holds functions or graphs within each other, more than {DEEPEST} deep.")
        for proto in protos:
            self._count += 1
            if self._count > MOST_NODES:
                raise FileError(f"{self.origin} holds more than {MOST_NODES:,} nodes with its functions written out.")
            self._texts(proto.name, proto.op_type, proto.domain, *proto.input, *proto.output)
            domain = "" if proto.domain == "ai.onnx" else proto.domain
            inputs = tuple(scope.find(name) if name else None for name in proto.input)
            name = prefix + self._name(proto)
            settings, bodies = self._settings(proto, scope, versions, given, depth)
            function = self._functions.get((proto.domain, proto.op_type, proto.overload))
            if function is not None:
                made = self._called(function, scope, inputs, settings, name, depth)
            else:
                made = self._node(proto, domain, name, inputs, settings, bodies, scope, versions)
            for output, ref in zip(proto.output, made, strict=False):
                if output:
                    scope.names[output] = ref

    def _node(
        self,
        proto: Any,
        domain: str,
        name: str,
        inputs: tuple[Ref | None, ...],
        settings: dict[str, Any],
        bodies: Sequence[_Scope],
        scope: _Scope,
        versions: Mapping[str, int],
    ) -> list[Ref | None]:
        if bodies:
            settings[CAPTURED] = tuple(tuple(body.captured) for body in bodies)
            inputs += tuple(scope.find(name) for body in bodies for name in body.captured)
        node = Node(
            f"{domain}::{proto.op_type}" if domain else proto.op_type,
            name,
            inputs,
            settings,
            tuple(body.graph for body in bodies),
            versions.get(domain, 1),
            len(proto.output),
        )
        place = scope.put(node)[0]
        return [(place, index) for index in range(len(proto.output))]

    def _called(
        self, function: Any, scope: _Scope, inputs: tuple[Ref | None, ...], settings: Settings, name: str, depth: int
    ) -> list[Ref | None]:
        """Write a function of the model out; its settings become those of its nodes."""
        self._texts(*function.input, *function.output)
        inner = _Scope(scope.nodes, None, self)
        inner.names = {**dict.fromkeys(function.input), **dict(zip(function.input, inputs, strict=False))}
        defaults = {proto.name: python_value(proto, self._tensor) for proto in function.attribute_proto}
        versions = self._versions(function.opset_import)
        self._nodes(function.node, inner, versions, {**defaults, **settings}, f"{name}/", depth + 1)
        return [inner.find(output) for output in function.output]

    def _settings(
        self, proto: Any, scope: _Scope, versions: Mapping[str, int], given: Settings, depth: int
    ) -> tuple[dict[str, Any], list[_Scope]]:
        settings: dict[str, Any] = {}
        bodies: list[_Scope] = []
        for entry in proto.attribute:
            self._texts(entry.name, entry.ref_attr_name)
            if entry.ref_attr_name:
                if entry.ref_attr_name in given:
                    settings[entry.name] = given[entry.ref_attr_name]
            elif entry.type == GRAPH:
                settings[entry.name] = len(bodies)
                bodies.append(self._body(entry.g, scope, versions, given, depth))
            else:
                settings[entry.name] = python_value(entry, self._tensor)
        return settings, bodies

    def _body(self, graph: Any, outer: _Scope, versions: Mapping[str, int], given: Settings, depth: int) -> _Scope:
        scope = _Scope([], outer, self)
        self._texts(*(value.name for value in (*graph.input, *graph.output, *graph.initializer)))
        for value in graph.input:
            scope.names[value.name] = scope.put(Node("", value.name))
        for part in graph.initializer:
            settings = {TENSOR: self._tensor(part)}
            scope.names[part.name] = scope.put(Node("Constant", part.name, (), settings, version=versions.get("", 1)))
        self._nodes(graph.node, scope, versions, given, prefix="", depth=depth + 1)
        names = tuple(value.name for value in graph.output)
        heads = tuple(self._present(scope, name) for name in names)
        scope.graph = Graph(tuple(scope.nodes), heads, names=names)
        return scope

    def _texts(self, *texts: str) -> None:
        """Refuse names that are no text: protobuf then hands bytes over."""
        for text in texts:
            if not isinstance(text, str):
                raise FileError(f"{self.origin} is a damaged ONNX model: {text!r:.60} is no text in UTF-8.")

    def _present(self, scope: _Scope, name: str) -> Ref:
        found = scope.find(name)
        if found is None:
            raise FileError(f"{self.origin}: the output {name!r} is left out.")
        return found

    def _name(self, proto: Any) -> str:
        """The node's name, as a path where torch's exporter wrote one.

        It numbers nodes (``node_conv2d_3``) and notes the layers that they come from, or, in its older form, makes
        ``/layer1/layer1.0/conv1/Conv`` of a convolution in ``layer1.0.conv1``.
        """
        if len(proto.input) > 1 and proto.input[1] in self._weights and proto.input[1].endswith(".weight"):
            return str(proto.input[1].removesuffix(".weight"))
        if proto.name.startswith("/"):
            return _path(proto.name.split("/")[1:])
        if proto.name and not proto.name.startswith("node_"):
            return str(proto.name)
        noted = next((entry.value for entry in proto.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "")
        scopes = [part for part in _listed(noted) if part]
        if scopes:
            layer = scopes[-2] if len(scopes) > 1 else ""
            alone = re.sub(r"_\d+$", "", scopes[-1]) == layer.rpartition(".")[2]
            return layer if alone else ".".join(scopes[-2:])
        named = str(proto.output[0]) if proto.output else ""
        return str(proto.name) or (named if re.search("[A-Za-z]", named) else str(proto.op_type))


def _path(parts: Sequence[str]) -> str:
    """Names of layers within each other as one path; one that repeats the name before it stands for both."""
    path = ""
    for before, part in zip(("", *parts), parts, strict=False):
        path = f"{path}{part[len(before) :]}" if before and part.startswith(f"{before}.") else f"{path}.{part}"
    return path.strip(".")


class _Scope:
    """Which names are visible at a place, and the nodes that are there so far."""

    graph: Graph

    def __init__(self, nodes: list[Node], outer: _Scope | None, reader: Reader) -> None:
        self.nodes = nodes
        self.names: dict[str, Ref | None] = {}
        self.captured: list[str] = []
        self._outer = outer
        self._reader = reader

    def put(self, node: Node) -> Ref:
        self.nodes.append(node)
        return len(self.nodes) - 1, 0

    def find(self, name: str) -> Ref | None:
        """The output of that name; what lies around a subgraph becomes a variable in it."""
        if name not in self.names:
            if self._outer is None:
                raise FileError(
                    f"{self._reader.origin}: a node takes {name!r:.80}, which no earlier node makes. The nodes "
                    "must lie in an order in which they can be run."
                )
            if self._outer.find(name) is None:
                self.names[name] = None
            else:
                self.captured.append(name)
                self.names[name] = self.put(Node("", name))
        return self.names[name]


def _listed(text: str) -> list[str]:
    """The texts of a list in Python's notation, or none."""
    if not text:
        return []
    try:
        found = ast.literal_eval(text) if len(text) < 10_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [part for part in found if isinstance(part, str)] if isinstance(found, list) else []
