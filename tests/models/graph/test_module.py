"""A graph as a torch module: named, printed, copied, saved, trained, exported; it frees what it no longer needs."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pellucid.errors import FileError, InputError, ModelError
from pellucid.models.graph import layers
from pellucid.models.graph.assembly import MOST_FOLDED, Call, assemble
from pellucid.models.graph.module import Function, GraphModule
from pellucid.models.graph.names import Names
from pellucid.models.graph.nodes import Graph, Node, Value
from pellucid.models.operators import shapes

pytestmark = pytest.mark.core


def dense(call: Call) -> Value:
    return layers.linear(call, call.input(0), call.input(1), call.optional(2))


def norm(call: Call) -> Value:
    return layers.batch_norm(call, *(call.input(index) for index in range(5)), eps=1e-3)


def halve(call: Call) -> list[Value]:
    return call.apply_many(shapes.split_even, call.input(0), parts=2, axis=1, outputs=2)


def widen(call: Call) -> Value:
    return call.apply(shapes.broadcast_to, call.input(0), shape=(MOST_FOLDED, 100))


def double(call: Call) -> Value:
    return call.apply(torch.mul, call.input(0), call.input(0))


TABLE: dict[str, Any] = {
    "dense": dense,
    "norm": norm,
    "relu": layers.module(nn.ReLU),
    "add": layers.function(torch.add),
    "t": layers.function(torch.t),
    "half": halve,
    "widen": widen,
    "double": double,
}


def graph(*rows: tuple[str, str, Sequence[Any]], heads: Sequence[tuple[int, int]] | None = None) -> Graph:
    """Nodes as (operator or "", name, inputs); an input is a place, a pair (place, output) or None."""
    nodes = []
    for op, name, inputs in rows:
        refs = tuple(ref if ref is None or isinstance(ref, tuple) else (ref, 0) for ref in inputs)
        nodes.append(Node(op, name, refs))
    return Graph(tuple(nodes), tuple(heads or [(len(nodes) - 1, 0)]))


def build(whole: Graph, **tensors: Tensor) -> GraphModule:
    return assemble(whole, dict(tensors), TABLE, kind="test").eval()


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"w1": (4, 3), "b1": (4,), "w2": (2, 4)}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


NET = graph(
    ("", "data", ()),
    ("", "w1", ()),
    ("", "b1", ()),
    ("dense", "stage/1.fc", (0, 1, 2)),
    ("relu", "relu", (3,)),
    ("", "w2", ()),
    ("dense", "forward", (4, 5, None)),
)


def test_layers_are_torchs_own_under_the_names_of_the_file() -> None:
    given = weights()
    module = build(NET, **given)
    assert {name: type(layer) for name, layer in module.named_children()} == {
        "stage_1_fc": nn.Linear,
        "relu": nn.ReLU,
        "forward_": nn.Linear,
    }
    assert list(module.state_dict()) == ["stage_1_fc.weight", "stage_1_fc.bias", "forward_.weight"]
    x = torch.ones(2, 3)
    assert torch.equal(module(x), (x @ given["w1"].T + given["b1"]).relu() @ given["w2"].T)
    assert torch.equal(module(data=x), module(x))


def test_the_print_tells_the_layers_and_the_wiring() -> None:
    module = build(graph(*[(n.op, n.name, n.inputs) for n in NET.nodes], ("add", "sum", (6, 6))), **weights())
    assert repr(module).splitlines() == [
        "GraphModule(  # data",
        "  (stage_1_fc): Linear(in_features=3, out_features=4, bias=True)  <- data",
        "  (relu): ReLU()  <- stage_1_fc",
        "  (forward_): Linear(in_features=4, out_features=2, bias=False)  <- relu",
        "  (sum): add()  <- forward_, forward_",
        ")  -> sum",
    ]


def test_copies_saves_and_loads(tmp_path) -> None:
    module, x = build(NET, **weights()), torch.randn(2, 3)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        twin.stage_1_fc.weight += 1
    assert not torch.equal(twin(x), module(x))
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin(x), module(x))
    torch.save(module, tmp_path / "whole.pt")
    loaded = torch.load(tmp_path / "whole.pt", weights_only=False)
    assert torch.equal(loaded(x), module(x))


def test_it_can_be_trained() -> None:
    module = build(NET, **weights()).train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05)
    x, y = torch.randn(20, 3), torch.randn(20, 2)
    losses = []
    for _ in range(30):
        loss = (module(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_it_can_be_exported() -> None:
    module, x = build(NET, **weights()), torch.randn(2, 3)
    exported = torch.export.export(module, (x,)).module()
    assert torch.allclose(exported(x), module(x))


def test_a_layer_used_twice_is_one_layer_and_a_weight_used_by_two_is_one_parameter() -> None:
    rows = [("", "data", ()), ("", "w", ()), ("dense", "a", (0, 1)), ("dense", "b", (2, 1)), ("add", "sum", (3, 1))]
    module = build(graph(*rows), w=torch.eye(3) * 2)
    assert list(module.state_dict()) == ["w", "a.weight"]
    assert module.w is module.a.weight
    assert len(list(module.parameters())) == 1
    assert "(a): again  <- a" in repr(module)
    assert torch.equal(module(torch.ones(3, 3)), 4 * torch.ones(3, 3) + 2 * torch.eye(3))


def test_what_is_known_is_computed_while_loading() -> None:
    rows = [("", "data", ()), ("", "w", ()), ("t", "turned", (1,)), ("dense", "fc", (0, 2))]
    module = build(graph(*rows), w=torch.arange(6.0).reshape(2, 3))
    assert [step.layer for step in module.steps] == ["fc"]
    assert module.fc.weight.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert module.fc.weight.requires_grad


def test_constants_out_of_proportion_are_refused() -> None:
    with pytest.raises(FileError, match=r"would make a constant of 6,710,886,400 numbers from 1, so it is refused"):
        build(graph(("", "w", ()), ("widen", "wide", (0,))), w=torch.ones(1, 1))


def test_weights_that_are_only_computed_with_leave_memory() -> None:
    given = {"w": torch.ones(2, 3)}
    kept = weakref.ref(given["w"])
    module = assemble(
        graph(("", "data", ()), ("", "w", ()), ("double", "squared", (1,)), ("dense", "fc", (0, 2))),
        given,
        TABLE,
        kind="test",
    )
    assert not given
    assert kept() is None
    assert module.fc.weight.shape == (2, 3)


def test_results_leave_memory_once_nothing_needs_them() -> None:
    rows = [("", "data", ()), ("relu", "one", (0,)), ("relu", "two", (1,)), ("relu", "three", (2,))]
    module = build(graph(*rows))
    alive: list[weakref.ref[Tensor]] = []
    seen: list[bool] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(any(ref() is not None and ref() is not inputs[0] for ref in alive))
        alive.append(weakref.ref(output))

    for layer in module.children():
        layer.register_forward_hook(watch)
    with torch.no_grad():
        module(torch.ones(2))
    assert seen == [False, False, False]


def test_several_outputs_come_as_a_tuple() -> None:
    rows = [("", "data", ()), ("half", "parts", (0,)), ("relu", "r", ((1, 1),))]
    module = build(graph(*rows, heads=[(1, 0), (2, 0)]))
    first, second = module(torch.tensor([[1.0, -2.0]]))
    assert (first.tolist(), second.tolist()) == ([[1.0]], [[0.0]])
    assert module.output_names == ("parts", "r")
    assert "<- parts[1]" in repr(module)
    assert repr(module).endswith("-> parts[0], r")


def test_steps_that_no_output_needs_are_left_out() -> None:
    rows = [("", "data", ()), ("relu", "wanted", (0,)), ("relu", "unwanted", (1,))]
    module = build(graph(*rows, heads=[(1, 0)]))
    assert [name for name, _ in module.named_children()] == ["wanted"]


@pytest.mark.parametrize(
    ("inputs", "named", "said"),
    [
        ((), {}, "got 0 in order and none by name"),
        ((1,), {}, "takes 2 inputs (data, other)"),
        ((1, 2, 3), {}, "got 3 in order"),
        ((1,), {"data": 2}, "got 1 in order and ['data'] by name"),
        ((), {"data": 1, "others": 2}, "['data', 'others'] by name"),
    ],
)
def test_wrong_inputs_are_counted(inputs: tuple[int, ...], named: dict[str, int], said: str) -> None:
    module = build(graph(("", "data", ()), ("", "other", ()), ("add", "sum", (0, 1))))
    assert float(module(torch.tensor(1.0), other=torch.tensor(2.0))) == 3
    with pytest.raises(InputError) as caught:
        module(*map(torch.tensor, inputs), **{name: torch.tensor(value) for name, value in named.items()})
    assert said in str(caught.value)


def test_a_norm_without_a_scale_keeps_it_at_one() -> None:
    def fixed(call: Call) -> Value:
        return layers.batch_norm(call, call.input(0), None, *(call.input(k) for k in (1, 2, 3)), eps=0.0)

    rows = [("", name, ()) for name in ("data", "beta", "mean", "var")]
    whole = graph(*rows, ("fixed", "n", (0, 1, 2, 3)))
    given = {"beta": torch.tensor([1.0, 2.0]), "mean": torch.zeros(2), "var": torch.full((2,), 4.0)}
    module = assemble(whole, given, {"fixed": fixed}, kind="test").eval()
    assert module(torch.tensor([[2.0, 2.0]])).tolist() == [[2.0, 3.0]]
    assert not module.n.weight.requires_grad
    assert module.n.bias.requires_grad
    with pytest.raises(ValueError, match="at least 2 axes"):
        module(torch.ones(2))


def test_weights_of_another_shape_are_named() -> None:
    rows = [("", name, ()) for name in ("data", "gamma", "beta", "mean", "var")]
    given = {name: torch.ones(3) for name in ("gamma", "mean", "var")}
    with pytest.raises(FileError, match=r"needs 'gamma' with shape \(2,\), but the file has \(3,\)"):
        build(graph(*rows, ("norm", "n", (0, 1, 2, 3, 4))), **given, beta=torch.ones(2))


def test_an_error_in_a_layers_settings_names_the_node() -> None:
    whole = graph(("", "data", ()), ("", "w", ()), ("t", "turned", (1,)))
    with pytest.raises(FileError, match=r"the node 'turned' \(t\) cannot be built: .*3D"):
        build(whole, w=torch.ones(2, 2, 2))


def test_operators_that_are_not_known_are_all_listed() -> None:
    whole = graph(("", "data", ()), ("new", "a", (0,)), ("newer", "b", (1,)), ("unused", "c", (0,)), heads=[(2, 0)])
    with pytest.raises(ModelError, match=r"2 operators of this test model are not known here: new \(a\); newer \(b\)"):
        build(whole)


def test_names_become_ones_that_torch_accepts() -> None:
    names = Names(taken={"train", "steps"})
    wanted = ["a.b/c", "a.b_c", "a/b/c", "", "/", "train", "train", "_held", "0", "größe"]
    given = ["a_b_c", "a_b_c_1", "a_b_c_2", "unnamed", "unnamed_1", "train_", "train__1", "held", "0", "gr_e"]
    assert [names(name) for name in wanted] == given


def test_a_function_prints_with_its_settings() -> None:
    assert repr(Function(shapes.concat, {"dim": 1})) == "concat(dim=1)"
