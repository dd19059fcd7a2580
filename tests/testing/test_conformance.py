"""The suite that every method goes through is public: a user's own method passes it, and what it breaks is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point
from pellucid.methods import AtPoints, Attribution, Call, Cost, PointMethod, methods, register, unregister
from pellucid.targets import Target
from pellucid.testing import check_method
from tests.trace.models import MODELS, Made, dense, numbers, seeded

pytestmark = pytest.mark.core


@dataclass(frozen=True)
class Own(PointMethod):
    """The gradient's magnitude times a factor, by a user of the library.

    Args:
        factor: what it is multiplied by.
    """

    factor: float = 2.0

    name: ClassVar[str] = "own-magnitude"
    family: ClassVar[Any] = "gradient"
    cost: ClassVar[str] = "1 forward + gradient"
    advice: ClassVar[str] = "Where the sign is of no interest."
    citation: ClassVar[str] = "@misc{own, author = {Own, A.}, title = {Own}, year = {2020}}"
    unit: ClassVar[str] = "gradient"

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        _, gradients = call.function.gradient(points, None, scalar, list(points))
        return AtPoints({point: self.factor * gradient.abs() for point, gradient in gradients.items()})

    def passes(self, call: Call) -> Cost:
        return Cost(0, 1)


@pytest.fixture
def registered() -> Iterator[str]:
    register(Own)
    yield Own.name
    unregister(Own.name)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_users_own_method_goes_through_all_of_it(registered: str, model: str) -> None:
    build, shape = MODELS[model]
    layer = {"transformer": "0", "recurrent": "head"}.get(model, "1")
    for method in (registered, Own, Own(factor=3.0)):
        check_method(method, build(), numbers(*shape), layer=layer, tolerance=1e-3)
    assert registered in methods()


def test_token_ids_and_several_inputs() -> None:
    def forward(self: Any, words: Tensor, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(words).mean(1) + x))

    model = seeded(lambda: Made(forward, table=nn.Embedding(10, 6), head=nn.Linear(6, 3)))
    words = torch.randint(0, 10, (3, 5), generator=torch.Generator().manual_seed(0))
    check_method(Own, model, {"words": words, "x": numbers(3, 6)})
    check_method(Own(), model, (words, numbers(3, 6)))


class Nameless(Own):
    """Says nothing of when to use it."""

    advice: ClassVar[str] = ""


class Homeless(Own):
    """Is of no family."""

    family: ClassVar[Any] = "magic"


class Uncited(Own):
    """Has no paper."""

    citation: ClassVar[str] = "a blog post"


class Silent(Own):
    pass


@dataclass(frozen=True)
class Unwritable(Own):
    """Cannot be written as JSON."""

    factor: float = float("inf")


class Priceless(Own):
    """Does not tell its cost."""

    def passes(self, call: Call) -> Any:
        return 3


class Unfit(Own):
    """Does not fit."""

    def unfit(self, call: Call) -> str | None:
        return "layer '0' is no convolution"


class Changed(Own):
    """Changes what it found; a subclass says how."""

    def attribute(self, call: Call, target: Target) -> Attribution:
        found = super().attribute(call, target)
        return replace(found, relevance={name: self.change(call, value) for name, value in found.relevance.items()})

    def change(self, call: Call, value: Tensor) -> Tensor:
        return value


class Forgetful(Changed):
    """Gives less where memory is short."""

    def change(self, call: Call, value: Tensor) -> Tensor:
        return value if call.memory is None else value / 2


class Coarse(Changed):
    """Computes in single precision."""

    def change(self, call: Call, value: Tensor) -> Tensor:
        return value.float()


class Mingled(Changed):
    """Lets a little of its batch mates in."""

    def change(self, call: Call, value: Tensor) -> Tensor:
        return value + 1e-5 * value.mean(0)


class Lenient(Own):
    """Explains class 0 where the target is out of range."""

    def attribute(self, call: Call, target: Target) -> Attribution:
        try:
            return super().attribute(call, target)
        except pl.TargetError:
            return super().attribute(call, pl.targets.parse_target(0))


class Clumsy(Own):
    """Fails in another way than it should."""

    def attribute(self, call: Call, target: Target) -> Attribution:
        try:
            return super().attribute(call, target)
        except pl.TargetError as error:
            raise IndexError("out of bounds") from error


class Summed(Own):
    """Gives a layer one number a sample."""

    def attribute(self, call: Call, target: Target) -> Attribution:
        found = super().attribute(call, target)
        return replace(found, layers={name: value.sum(1) for name, value in found.layers.items()})


class Shallow(Own):
    """Knows nothing of layers."""

    def attribute(self, call: Call, target: Target) -> Attribution:
        return replace(super().attribute(call, target), layers={})


FAULTS = [
    (Nameless, r"Nameless\.advice must be a text that says something; it is ''"),
    (Homeless, r"Homeless\.family must be one of relevance, gradient, class activation"),
    (Uncited, r"Uncited\.citation must be a BibTeX entry"),
    (Silent, "Silent has no docstring"),
    (Unwritable, "not finite everywhere"),
    (Priceless, r"passes\(\) must give a Cost; it gives int"),
    (Unfit, r"unfit\(\) says of this model and input: layer '0' is no convolution"),
    (Forgetful, "another with memory for one sample: off by"),
    (Coarse, "With dtype='float64' the relevance of input 'x' is torch.float32"),
    (Mingled, "With dtype='float64' the relevance of input 'x' of sample 3 depends on its batch mates: off by"),
    (Lenient, "Given a class that is out of range, it raises nothing; expected TargetError"),
    (Clumsy, "it raises IndexError instead of TargetError: out of bounds"),
    (Summed, r"layers must hold finite values of shape \(4, 8\) there; it holds \(4,\)"),
    (Shallow, r"With layer='1', layers must hold finite values of shape \(4, 8\) there; it holds None"),
]


@pytest.mark.parametrize(("method", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_faults_are_named(method: type[Own], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_method(method, dense(), numbers(4, 6), layer="1")


class Lazy(Own):
    """Gives for every target what it found for the first."""

    def attribute_all(self, call: Call, targets: Sequence[Target]) -> list[Attribution]:
        return [self.attribute(call, targets[0])] * len(targets)


def test_a_target_for_each_sample() -> None:
    targets = [0, 1, 2, 1]
    check_method(Own, dense(), numbers(4, 6), target=targets, layer="1")
    with pytest.raises(AssertionError, match="The relevance of input 'x' is another as one of several targets"):
        check_method(Lazy, dense(), numbers(4, 6), target=targets)


class Placed(Own):
    """Works at the layer that is named, where it halves what it finds."""

    placed: ClassVar[bool] = True

    def attribute(self, call: Call, target: Target) -> Attribution:
        found = super().attribute(call, target)
        return replace(
            found, relevance={name: value / (1 + len(call.layers)) for name, value in found.relevance.items()}
        )


class Torn(Placed):
    """Says that it works at the inputs."""

    placed: ClassVar[bool] = False


def test_a_method_that_works_at_the_layer_says_so() -> None:
    check_method(Placed, dense(), numbers(4, 6), layer="1")
    with pytest.raises(AssertionError, match="The relevance of input 'x' is another with layer='1'"):
        check_method(Torn, dense(), numbers(4, 6), layer="1")


def test_settings_that_json_cannot_hold_are_named() -> None:
    class Odd(Own):
        """Tells a setting that is no JSON."""

        def settings(self) -> dict[str, object]:
            return {"factor": object()}

    with pytest.raises(AssertionError, match=r"Odd\.settings\(\) cannot be held by JSON"):
        check_method(Odd, dense(), numbers(4, 6))


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(pl.InputError, match="No method is called 'magic'"):
        check_method("magic", dense(), numbers(4, 6))
