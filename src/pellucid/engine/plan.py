"""The plan of a walk: which operands are live, what each node really is, and which rule it gets.

A walk and the flight check read the same plan, so that what is announced is what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from torch import Tensor
from torch.autograd.graph import Node

from pellucid.engine.graph import Edge, Graph
from pellucid.engine.merging import foldable_norm, split_biases
from pellucid.engine.observer import Observer
from pellucid.engine.ops import Kind, Op
from pellucid.engine.private import ADDCDIV, ADDCMUL, EMBEDDINGS, FACTORS, LERPS, POWERS, WITH_MEAN, function_class
from pellucid.engine.record import Record
from pellucid.engine.regions import Region, find_region
from pellucid.engine.registry import RuleFunction, overlaid, qualified_name, rule_for

__all__ = ["Layer", "Plan", "Unknown", "make_plan"]

_LONGEST_CHAIN = 64


@dataclass(frozen=True, slots=True)
class Layer:
    """What a composite may look at when it chooses a rule for a node."""

    op: Op
    module: str
    module_type: str
    first: bool
    """No linear layer lies between this one and the explained input."""
    last: bool
    """No linear layer lies between this one and the explained scalar."""
    spatial: bool
    """A convolution whose weights span more than one position."""
    attention: bool = False
    """The model has attention (a softmax that weighs other signals, or a fused kernel) on the walked paths."""
    convolved: bool = False
    """The explained input enters through a convolution, as images and sound do."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A live node that nothing explains."""

    name: str
    module: str


@dataclass(slots=True)
class Plan:
    """Per node of the graph: operation, rule, live operands, where messages go."""

    graph: Graph
    observer: Observer
    ops: list[Op | None]
    rules: list[RuleFunction | None]
    live: list[tuple[bool, ...]]
    reached: list[tuple[bool, ...]]
    targets: list[tuple[Edge, ...]]
    modules: list[str]
    on_path: list[bool]
    sources: dict[int, str]
    regions: dict[int, Region]
    folded: dict[int, int]
    """Convolution -> the batch-norm that is folded into it."""
    fold_into: dict[int, int]
    biases: dict[int, Tensor]
    """Matrix product -> the bias that a node of its own adds to it."""
    unknown: list[Unknown]
    parameter_names: Mapping[int, str]
    root_live: bool

    @property
    def convolutions(self) -> int:
        """How many convolutions are walked."""
        return sum(path and op is Op.CONVOLUTION for path, op in zip(self.on_path, self.ops, strict=True))

    def origin(self, record: Record, module: str) -> tuple[str, str]:
        """The ledger's source and place for the dead operands of ``record``."""
        for tensor in record.dead_tensors():
            if not tensor.requires_grad:
                continue
            name, embedding = _leaf_name(tensor, self.parameter_names)
            if embedding:
                return "embedding", name or module
            if name.rpartition(".")[2].startswith("bias"):
                return "bias", name.rpartition(".")[0] or module
            return "learned token", name or module
        return "constant", module


def _leaf_name(tensor: Tensor, parameter_names: Mapping[int, str]) -> tuple[str, bool]:
    """The parameter that ``tensor`` is or was first made from, and whether an embedding looked it up."""
    node, embedding = tensor.grad_fn, False
    if node is None:
        return parameter_names.get(id(tensor), ""), False
    for _ in range(_LONGEST_CHAIN):
        embedding = embedding or node.name() in EMBEDDINGS
        variable = getattr(node, "variable", None)
        if variable is not None:
            return parameter_names.get(id(variable), ""), embedding
        following = next((child for child, _ in node.next_functions if child is not None), None)
        if following is None:
            break
        node = following
    return "", embedding


def _place(record: Record | None, op: Op | None, scope: str, parameter_names: Mapping[int, str]) -> str:
    """The module that ran a node; the owner of its weight where that says more (scripted models, functional calls)."""
    if record is None or op is None or op.kind not in (Kind.LINEAR, Kind.NORM):
        return scope
    for tensor in record.dead_tensors():
        if tensor.requires_grad:
            owner = _leaf_name(tensor, parameter_names)[0].rpartition(".")[0]
            return owner if owner.startswith(scope) else scope
    return scope


ChooseRule = Callable[[Layer], "RuleFunction | None"]


def make_plan(
    graph: Graph,
    observer: Observer,
    roots: Sequence[int],
    sources: Mapping[int, str],
    choose: ChooseRule,
    *,
    parameter_names: Mapping[int, str],
    module_types: Mapping[str, str],
    softmax_gates: bool,
    fold: Callable[[Layer], bool],
    unfoldable: frozenset[int] = frozenset(),
    every_edge: bool = False,
) -> Plan:
    """Decide liveness, gates, regions, folding and rules.

    Liveness is a depth: how many gate functions the cheapest path from an explained source crosses. Where signals of
    different depth are multiplied, the shallower one is the signal and the deeper ones are its gates.

    Args:
        graph: everything behind the explained scalar.
        observer: what was seen of the forward.
        roots: nodes at which the walk starts.
        sources: leaves and look-ups of explained inputs, by node index.
        choose: the composite; None means the default rule of the registry.
        parameter_names: id of each leaf parameter -> its name.
        module_types: module path -> class name.
        softmax_gates: softmax results are coefficients (CP-LRP) and not first-order Taylor (AttnLRP).
        fold: whether batch-norms are folded into this convolution.
        unfoldable: nodes whose own output is asked for.
        every_edge: gradients flow everywhere: nothing is a gate (gradient-like composites).
    """
    count = len(graph.nodes)
    numbers = [graph.sequence(i) for i in range(count)]
    modules = observer.module_of(numbers)
    ops = list(graph.ops)
    depth = [inf] * count
    live: list[tuple[bool, ...]] = [()] * count
    reached: list[tuple[bool, ...]] = [()] * count
    targets: list[tuple[Edge, ...]] = list(graph.edges)
    regions: dict[int, Region] = {}
    linear_before = [0] * count

    def depth_of(edge: Edge) -> float:
        source, output = edge
        if source < 0:
            return inf
        statistic = output == 1 and graph.names[source] in WITH_MEAN
        return depth[source] - 1 if statistic else depth[source]

    for i in range(count - 1, -1, -1):
        edges = graph.edges[i]
        if i in sources:
            depth[i] = 0
            continue
        depths = [depth_of(edge) for edge in edges]
        reached[i] = tuple(d < inf for d in depths)
        op = ops[i]
        least = min(depths, default=inf)
        own = list(reached[i])
        if least < inf:
            linear_before[i] = max(linear_before[e[0]] for e, ok in zip(edges, own, strict=True) if ok)
        kind = op.kind if op is not None else None
        if every_edge or least == inf or op is None:
            depth[i] = least
        elif graph.names[i] in FACTORS and kind in (Kind.LINEAR, Kind.PRODUCT):
            a, b = FACTORS[graph.names[i]]
            da, db = depths[a], depths[b]
            if da < inf and db < inf:
                ops[i] = Op.MATMUL
                if da != db:
                    own[b if da < db else a] = False
            else:
                ops[i] = Op.CONVOLUTION if op is Op.CONVOLUTION else Op.LINEAR
                if min(da, db) < inf:
                    linear_before[i] += 1
            depth[i] = min(depths)
        elif kind in (Kind.PRODUCT, Kind.DIVISION):
            region = find_region(graph, ops, i, reached, observer) if _may_be_region(depths) else None
            if region is not None:
                regions[i] = region
                targets[i] = (region.source,)
                own = [True]
                depth[i] = depth_of(region.source)
            elif kind is Kind.DIVISION:
                own = [depths[0] < inf] + [False] * (len(edges) - 1)
                depth[i] = depths[0] if depths[0] < inf else least + 1
            elif graph.names[i] in (ADDCMUL, ADDCDIV):
                factors = depths[1:]
                own[1:] = [d == min(factors) and d < inf for d in factors]
                depth[i] = least
            else:
                own = [d == least for d in depths]
                depth[i] = least
        elif kind is Kind.GATE:
            depth[i] = least + (0 if _plain_power(graph, i, observer) else 1)
            own = [d == least for d in depths]
        elif kind is Kind.SOFTMAX:
            depth[i] = least + (1 if softmax_gates else 0)
        elif kind is Kind.ATTENTION:
            own = [d < inf and k < 3 for k, d in enumerate(depths)]
            depth[i] = depths[2] if softmax_gates and depths[2] < inf else least
            if softmax_gates and depths[2] < inf:
                own = [k == 2 for k in range(len(edges))]
        elif kind is Kind.NORM:
            own = [k == 0 and d < inf for k, d in enumerate(depths)]
            depth[i] = depths[0]
        elif graph.names[i] in LERPS and len(edges) > 2:
            own[2] = False
            depth[i] = min(depths[:2])
        else:
            depth[i] = least
        live[i] = tuple(own)

    on_path = [False] * count
    for root in roots:
        on_path[root] = True
    linear_after = [0] * count
    for i in range(count):
        if not on_path[i] or i in sources:
            continue
        after = linear_after[i] + (1 if ops[i] in (Op.LINEAR, Op.CONVOLUTION) else 0)
        for edge, ok in zip(targets[i], live[i], strict=True):
            if ok and edge[0] >= 0:
                on_path[edge[0]] = True
                linear_after[edge[0]] = max(linear_after[edge[0]], after)

    biases, absorbed = split_biases(graph, ops, live, observer, on_path)
    # Where softmax results are coefficients no walk goes through them, so that liveness and not the path tells.
    attention = any(any(reached[i]) and op in (Op.ATTENTION, Op.SOFTMAX) for i, op in enumerate(ops))
    convolved = any(path and ops[i] is Op.CONVOLUTION and linear_before[i] == 1 for i, path in enumerate(on_path))
    rules: list[RuleFunction | None] = [None] * count
    unknown: list[Unknown] = []
    folded: dict[int, int] = {}
    fold_into: dict[int, int] = {}
    for i in range(count):
        if not on_path[i] or i in sources:
            continue
        if i in absorbed:  # the addition of a bias that its layer has taken
            ops[i] = Op.COPY
        op = ops[i]
        modules[i] = _place(observer.records.get(numbers[i]), op, modules[i], parameter_names)
        if i in regions:
            rules[i] = rule_for("elementwise region")
            continue
        if op is None:
            rules[i] = rule_for(function_name(graph.nodes[i])) or rule_for(graph.names[i])
            if rules[i] is None:
                unknown.append(Unknown(graph.names[i], modules[i]))
            continue
        layer = Layer(
            op=op,
            module=modules[i],
            module_type=module_types.get(modules[i], ""),
            first=op in (Op.LINEAR, Op.CONVOLUTION) and linear_before[i] == 1,
            last=op in (Op.LINEAR, Op.CONVOLUTION) and linear_after[i] == 0,
            spatial=op is Op.CONVOLUTION and _spans_positions(graph, i),
            attention=attention,
            convolved=convolved,
        )
        rules[i] = overlaid(op) or choose(layer) or rule_for(op)
        if rules[i] is None:
            unknown.append(Unknown(graph.names[i], modules[i]))
        if op in (Op.CONVOLUTION, Op.LINEAR) and fold(layer) and i not in unfoldable:
            norm = foldable_norm(graph, ops, i, on_path)
            if norm is not None:
                folded[i], fold_into[norm] = norm, i
    return Plan(
        graph, observer, ops, rules, live, reached, targets, modules, on_path, dict(sources), regions,
        folded, fold_into, biases, unknown, parameter_names, all(depth[root] < inf for root in roots),
    )  # fmt: skip


def function_name(node: Node) -> str:
    """The qualified name of the ``autograd.Function`` class that made ``node``; its node name for any other."""
    made_by = function_class(node)
    return node.name() if made_by is None else qualified_name(made_by)


def _may_be_region(depths: Sequence[float]) -> bool:
    return sum(d < inf for d in depths) > 1


def _plain_power(graph: Graph, i: int, observer: Observer) -> bool:
    """x ** n with n >= 1 is an ordinary elementwise function: finite, with a finite slope, at zero."""
    if graph.names[i] not in POWERS:
        return False
    record = observer.records.get(graph.sequence(i))
    exponent = record.args[1] if record is not None and len(record.args) > 1 else None
    if isinstance(exponent, Tensor) and exponent.numel() == 1:
        exponent = float(exponent)
    return isinstance(exponent, (int, float)) and exponent >= 1


def _spans_positions(graph: Graph, i: int) -> bool:
    weight = graph.edges[i][1]
    return weight[0] >= 0 and graph.shape(weight)[2:].numel() > 1
