"""Every registered method holds what every method must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid._api import Request
from pellucid.errors import InputError, ModelError
from pellucid.methods import Call, Method, PermutationShapley, method_named, methods
from pellucid.methods.activation import ACTIVATION_MAPS
from pellucid.methods.attention import ATTENTION_METHODS
from pellucid.progress import Progress
from pellucid.testing import check_method, check_restores
from tests.methods.light import FITTING, LIGHT, MORE, lightened
from tests.trace.models import MODELS, Made, numbers, seeded

pytestmark = pytest.mark.core

NAMES = sorted(methods())
CASES = [(method, model) for method in NAMES for model in FITTING.get(method, sorted(MODELS))]
LAYERS = {
    "dense": "1", "convolutional": "2", "transformer": "0", "recurrent": "lstm", "series": "1", "volumes": "2",
    "pooled": "1", "pooled-series": "1", "pooled-volumes": "1",
}  # fmt: skip
"""A layer of each model, at which methods are read too."""
MAPS = {method.name for method in ACTIVATION_MAPS}
ATTENTION = {method.name for method in ATTENTION_METHODS}


def made(model: str) -> tuple[nn.Module, Tensor]:
    build, shape = {**MODELS, **MORE}[model]
    return build(), numbers(*shape).clamp(-1, 1)


def test_every_light_setting_is_of_a_method() -> None:
    assert set(LIGHT) <= set(NAMES)
    assert set(FITTING) <= set(NAMES)


@pytest.mark.parametrize(("name", "model"), CASES)
def test_is_all_that_a_method_must_be(name: str, model: str) -> None:
    """The public suite, with a target for each sample, and at a layer."""
    module, x = made(model)
    targets = [0, 1, 2, 1][: len(x)]
    check_method(lightened(name), module, x, target=targets, layer=LAYERS[model], tolerance=2e-3)


def several() -> tuple[nn.Module, dict[str, Tensor]]:
    """Token ids and columns."""

    def forward(self: Any, words: Tensor, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(words).mean(1) + x))

    model = seeded(lambda: Made(forward, table=nn.Embedding(10, 6), head=nn.Linear(6, 3)))
    words = torch.randint(0, 10, (3, 5), generator=torch.Generator().manual_seed(0))
    return model, {"words": words, "x": numbers(3, 6)}


def attending() -> tuple[nn.Module, dict[str, Tensor]]:
    """Token ids that attend to each other, and columns."""

    def forward(self: Any, words: Tensor, x: Tensor) -> Tensor:
        return self.head(self.attend(self.table(words)).mean(1) + x)

    def build() -> nn.Module:
        attend = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        return Made(forward, table=nn.Embedding(10, 6), attend=attend, head=nn.Linear(6, 3))

    return seeded(build), several()[1]


def beside() -> tuple[nn.Module, dict[str, Tensor]]:
    """A picture that is pooled, and columns."""

    def forward(self: Any, picture: Tensor, x: Tensor) -> Tensor:
        return self.head(self.conv(picture).mean((2, 3)) + x)

    conv = lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())  # noqa: E731
    model = seeded(lambda: Made(forward, conv=conv(), head=nn.Linear(6, 3)))
    return model, {"picture": numbers(3, 3, 6, 6), "x": numbers(3, 6)}


@pytest.mark.parametrize("name", NAMES)
def test_several_inputs(name: str) -> None:
    model, x = (attending if name in ATTENTION else beside if name == "cam" else several)()
    check_method(lambda m, v: pl.explain(m, v, target=0, method=lightened(name)), model, x, tolerance=2e-3)


def refused(name: str, model: nn.Module, x: Any, *, target: Any = 0, layer: str | None = None) -> str:
    """What the method says; it leaves no trace, and ``unfit`` says the same beforehand."""
    with pytest.raises((InputError, ModelError)) as raised:
        check_restores(model, x, lambda: pl.explain(model, x, target=target, method=lightened(name), layer=layer))
    call = Request(model, layer).call(x)
    call.target = pl.targets.resolve_targets(target, call.batch, class_names=None)
    assert lightened(name).unfit(call) == str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", sorted({"cam", *ATTENTION}))
def test_several_inputs_without_what_a_method_reads_are_refused(name: str) -> None:
    told = refused(name, *several())
    if name == "cam":
        assert "global average pooling and one linear layer behind 'table', but there is Tanh" in told
    else:
        assert "No attention among the tokens of the explained input lies on the way to the explained scalar" in told


# Layers: what a layer gets is what the inputs of the rest of the network would get.

PARTS: dict[str, dict[str, Any]] = {
    "clrp": {"composite": "epsilon"},
    "deep-shap": {"background": ["zero"]},
    "expected-gradients": {"background": ["zero"]},
    "feature-permutation": {"background": ["zero"]},
    "gradient-shap": {"noise": 0},
    "lrp": {"composite": "epsilon"},
    "xrai": {"baseline": "zero"},
}
"""Settings that mean the same at the inputs and at a layer of them."""
OF_INPUTS = {
    "smoothgrad": "noise",
    "smoothgrad-squared": "noise",
    "vargrad": "noise",
    "deep-taylor": "the first layer's rule",
}
"""Methods whose values at a layer depend on something of the inputs; their own tests have these."""


def behind(form: str = "dense") -> tuple[Any, Tensor]:
    """A network whose first layer is linear, so that paths stay straight and zero stays zero."""

    def build() -> nn.Module:
        if form == "dense":
            return nn.Sequential(nn.Linear(6, 7, bias=False), nn.Tanh(), nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 3))
        later = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        return nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.Tanh(), *later)

    shape = (4, 6) if form == "dense" else (2, 2, 6, 6)
    return seeded(build).double(), numbers(*shape).clamp(-1, 1).double()


@pytest.mark.parametrize("form", ["dense", "convolutional"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in {*MAPS, *ATTENTION, *OF_INPUTS, "crp"}])
def test_a_layer_gets_what_the_inputs_of_the_rest_would(name: str, form: str) -> None:
    model, x = behind(form)
    method = lightened(name).with_settings(**PARTS.get(name, {}))
    if form == "convolutional" and "features" in method.settings() and name != "rise":
        method = method.with_settings(features="channels")  # those of a layer are, of pictures they would be patches
    targets = [0, 1, 2, 1][: len(x)]
    found = pl.explain(model, x, target=targets, method=method, layer=["0", "2"])
    inner = model[0](x).detach()
    rest = pl.explain(model[1:], inner, target=targets, method=method)
    assert torch.allclose(found.layers["0"], rest.relevance, rtol=1e-6, atol=1e-9)
    assert bool(found.layers["0"].any())
    assert found.layers["2"].shape == model[:3](x).shape
    whole = pl.explain(model, x, target=targets, method=method)
    assert torch.allclose(found.relevance, whole.relevance, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", sorted(OF_INPUTS))
def test_other_methods_have_layers_too(name: str) -> None:
    model, x = behind()
    found = pl.explain(model, x, target=1, method=lightened(name), layer="2").layers["2"]
    assert found.shape == (4, 8)
    assert bool(torch.isfinite(found).all())
    assert bool(found.any())


@pytest.mark.parametrize("name", sorted(MAPS | ATTENTION))
def test_a_map_is_made_at_the_layer(name: str) -> None:
    """Of the positions that the layer has."""
    model, x = made(FITTING[name][0])
    layers: dict[str, tuple[str, tuple[int, ...]]] = {
        "convolutional": ("2", (2, 6, 6)), "transformer": ("0", (2, 5)), "pooled": ("1", (2, 6, 6))
    }  # fmt: skip
    layer, shape = layers[FITTING[name][0]]
    there = pl.explain(model, x, target=1, method=lightened(name), layer=layer).layers[layer]
    assert there.shape == shape
    assert bool(torch.isfinite(there).all())
    assert bool(there.any())


@pytest.mark.parametrize("name", sorted(MAPS | ATTENTION | {"crp"}))
def test_layers_without_positions_or_attention_are_refused(name: str) -> None:
    model, x = behind()
    told = refused(name, model, x, layer=None if name in ATTENTION else "2")
    if name in ATTENTION:
        assert "No attention among the tokens of the explained input" in told
    else:
        assert "no positions of the input can be told apart. The layers that ran" in told


@pytest.mark.parametrize("name", sorted(ATTENTION))
def test_a_module_without_attention_is_refused(name: str) -> None:
    model, x = made("transformer")
    with pytest.raises(InputError, match="The module '2' holds no attention among the tokens of the input"):
        pl.explain(model, x, target=0, method=lightened(name), layer="2")


# Neurons: a unit of an inner layer is explained as the output of a network that ends there.


def ending(model: Any, name: str) -> tuple[str, nn.Module, int]:
    """A unit as a target, and the network up to it with the unit's index."""
    if name == "dense":
        return "1:4", model[:2], 4
    if name == "transformer":
        return "0:2", Made(lambda self, x: self.first(x).mean(1), first=model[0]).eval(), 2
    head = {"convolutional": model[:3], "pooled": model[:2]}[name]
    return f"{len(head) - 1}:3", nn.Sequential(*head, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), 3


AGAINST_CLASSES = {"clrp", "finer-cam"}
NEURONS = [
    (name, model)
    for name in NAMES
    for model in FITTING.get(name, ["convolutional", "dense"])[:2]
    if name not in AGAINST_CLASSES and model in ("dense", "convolutional", "transformer", "pooled")
]


def test_every_method_but_those_that_compare_classes_has_neurons() -> None:
    assert {name for name, _ in NEURONS} == set(NAMES) - AGAINST_CLASSES


@pytest.mark.parametrize(("name", "model"), NEURONS)
def test_a_neuron_is_explained_as_the_output_of_what_leads_to_it(name: str, model: str) -> None:
    module, x = made(model)
    module, x = module.double(), x.double()
    target, head, index = ending(module, model)
    ours = pl.explain(module, x, target=target, method=lightened(name))
    theirs = pl.explain(head, x, target=index, method=lightened(name))
    assert torch.allclose(ours.output, theirs.output)
    assert torch.allclose(ours.relevance, theirs.relevance, rtol=1e-6, atol=1e-9)
    assert bool(ours.relevance.any())


@pytest.mark.parametrize("name", sorted(AGAINST_CLASSES))
def test_what_compares_classes_refuses_a_neuron(name: str) -> None:
    model, x = made("convolutional")
    with pytest.raises(InputError, match=f"{name} compares a class with others: expected a class as the target"):
        check_restores(model, x, lambda: pl.explain(model, x, target="2:3", method=lightened(name)))


# Random numbers and progress.

STOCHASTIC = {
    "expected-gradients", "feature-permutation", "gradient-shap", "hsic", "kernel-shap", "lime", "owen-values",
    "permutation-shapley", "rise", "smooth-grad-cam++", "smoothgrad", "smoothgrad-squared", "sobol", "vargrad",
}  # fmt: skip


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every generator that a method takes."""
    taken: list[int] = []
    plain: Callable[[Call, int], torch.Generator] = Call.generator

    def generator(self: Call, offset: int = 0) -> torch.Generator:
        taken.append(offset)
        return plain(self, offset)

    monkeypatch.setattr(Call, "generator", generator)
    return taken


@pytest.mark.parametrize("name", NAMES)
def test_what_draws_random_numbers_tells_its_error_and_progress_ends(name: str, draws: list[int]) -> None:
    module, x = made(FITTING.get(name, ["convolutional"])[0])
    progress = Watched()
    method = lightened(name)
    (found,) = Request(module, progress=progress).run(method, x, [0])
    assert bool(draws) == (name in STOCHASTIC)
    if draws:
        error = found.details["standard error"]
        assert error.shape == found.relevance.shape
        assert bool(torch.isfinite(error).all())
        assert bool((error >= 0).all())
        flat = name == "smooth-grad-cam++"  # behind its layer this model is linear, so that no noise changes a gradient
        assert bool(error.any()) != flat
    assert all(total is None or done <= total for done, total in progress.told)
    told: list[tuple[int, int | None, float | None]] = []
    pl.explain(module, x, target=0, method=method, progress=lambda *report: told.append(report))
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)
    assert bool(told) == (progress.done > 0)
    assert not told or (told[-1][0], told[-1][2]) == (told[-1][1], 0.0)


class Watched(Progress):
    """Progress that keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, int | None]] = []

    def advance(self, count: int) -> None:
        super().advance(count)
        self.told.append((self.done, self.total))


def test_errors_of_a_layer_are_told_beside_it() -> None:
    model, x = behind()
    found = pl.explain(model, x, target=1, method=lightened("smoothgrad"), layer="2")
    assert found.details["standard error at 2"].shape == found.layers["2"].shape
    found = pl.explain(model, x, target=1, method=PermutationShapley(samples=100), layer="0")
    assert "standard error" not in found.details  # 6 columns are enumerated, 7 units are not
    assert bool((found.details["standard error at 0"] > 0).any())


def test_every_method_is_found_by_name_and_the_error_offers_near_ones() -> None:
    for name in NAMES:
        assert isinstance(method_named(name.replace("_", "-").replace("-", "_")), Method)
        assert str(method_named(name)) == name
    with pytest.raises(InputError, match="Did you mean 'integrated-gradients'"):
        method_named("integrated-gradient")
    with pytest.raises(InputError, match="Expected a method's name or a Method, got 3"):
        method_named(3)  # type: ignore[arg-type]
