"""The verb compare: order, names, costs, methods that fail, interruption, progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

import pellucid as pl
from pellucid.methods import Attribution, Call, Cost, Gradient, IntegratedGradients, Method
from pellucid.targets import Target
from pellucid.testing import check_restores
from tests.trace.models import convolutional, dense, numbers

pytestmark = pytest.mark.core


@dataclass(frozen=True)
class Broken(Method):
    """Fails as ``how`` says."""

    how: str = "value"
    name: ClassVar[str] = "broken"
    family: ClassVar[Any] = "gradient"
    cost: ClassVar[str] = "nothing"
    advice: ClassVar[str] = "Never."
    citation: ClassVar[str] = "@misc{none}"

    def attribute(self, call: Call, target: Target) -> Attribution:
        if not self.how.startswith("interrupt"):
            raise ValueError("three\nlines\nlong")
        if self.how == "interrupt with estimate":
            done = Gradient().attribute(call, target)
            call.partial = lambda: done
        raise KeyboardInterrupt

    def unfit(self, call: Call) -> str | None:
        return "layer 'fc' is no convolution" if self.how == "unfit" else None

    def passes(self, call: Call) -> Cost:
        return Cost(None, 0)


def compare(methods: Any, **more: Any) -> pl.Comparison:
    return pl.compare(dense(), numbers(4, 6), target=1, methods=methods, **more)


def test_order_is_that_asked_for_and_each_is_what_explain_gives() -> None:
    names = ["gradient-x-input", "lrp", "gradient"]
    found = compare(names)
    assert list(found) == names
    for name in names:
        alone = pl.explain(dense(), numbers(4, 6), target=1, method=name)
        assert torch.equal(found[name].relevance, alone.relevance)
    assert found.target == ("1",) * 4
    assert not found.left_out


def test_all_takes_what_fits_in_the_order_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"lrp": pl.methods.LRP, "gradient": Gradient}
    monkeypatch.setattr("pellucid._compare._all", lambda: known)
    found = compare("all")
    assert list(found) == ["lrp", "gradient"]

    @dataclass(frozen=True)
    class Unfit(Broken):
        how: str = "unfit"

    monkeypatch.setattr("pellucid._compare._all", lambda: {"broken": Unfit, **known})
    found = compare(methods="all")
    assert list(found) == ["lrp", "gradient"]
    assert found.left_out == {"broken": "layer 'fc' is no convolution"}
    assert compare([Unfit(), "lrp"]).left_out["broken"] != found.left_out["broken"], "asked for by name, it is tried"


def test_a_name_says_the_settings_where_a_method_comes_twice() -> None:
    several = [
        IntegratedGradients(steps=3),
        IntegratedGradients(steps=5, baseline="mean"),
        "integrated-gradients",
        "lrp",
    ]
    found = compare([*several, pl.methods.LRP("epsilon"), several[0]])
    assert list(found) == [
        "integrated-gradients (steps=3)",
        "integrated-gradients (steps=5, baseline=mean)",
        "integrated-gradients",
        "lrp",
        "lrp (composite=epsilon)",
        "integrated-gradients (steps=3) 2",
    ]


def test_costs_are_counted() -> None:
    found = compare([IntegratedGradients(steps=7), "gradient", "lrp"])
    assert {name: (cost.forwards, cost.gradients) for name, cost in found.costs.items()} == {
        "integrated-gradients": (8, 28),  # the output and the baseline's; seven steps of four samples
        "gradient": (0, 4),
        "lrp": (0, 4),
    }
    assert all(cost.seconds > 0 for cost in found.costs.values())


def test_one_that_fails_does_not_lose_the_others() -> None:
    found = compare(["gradient", Broken(), "lrp"])
    assert list(found) == ["gradient", "lrp"]
    assert found.left_out == {"broken": "ValueError: three lines long"}


def test_if_all_fail_it_says_why() -> None:
    with pytest.raises(ValueError, match="three"):
        compare([Broken()])
    with pytest.raises(
        pl.ModelError, match=r"No method could explain this\. broken: ValueError: three lines long; broken"
    ):
        compare([Broken(), Broken()])


def test_what_is_wrong_for_every_method_is_raised() -> None:
    for change, error in [
        ({"target": 7}, pl.TargetError),
        ({"layer": "nowhere"}, pl.InputError),
        ({"methods": "some"}, pl.InputError),
        ({"methods": []}, pl.InputError),
        ({"methods": ["gradientt"]}, pl.InputError),
        ({"x": numbers(4, 6) * float("nan")}, pl.InputError),
        ({"memory": 10}, pl.InputError),
    ]:
        with pytest.raises(error):
            pl.compare(**{"model": dense(), "x": numbers(4, 6), "target": 1, "methods": ["gradient", "lrp"], **change})
    with pytest.raises(pl.ModelError, match="training mode"):
        pl.compare(torch.nn.Sequential(torch.nn.Dropout()), numbers(4, 6))


def test_layers_memory_and_dtype_reach_every_method() -> None:
    model, x = convolutional(), numbers(3, 3, 8, 8)
    found = pl.compare(
        model, x, methods=["lrp", "gradient"], target=[0, 1, 2], layer="2", dtype="float64", memory=100_000
    )
    for one in found.explanations.values():
        assert one.relevance.dtype == torch.float64
        assert one.layers["2"].shape == (3, 4, 6, 6)
        assert [label.split()[0] for label in one.target] == ["0", "1", "2"]


def test_it_leaves_no_trace() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    check_restores(model, x, lambda: pl.compare(model, x, methods=["lrp", Broken(), "integrated-gradients"]))


def test_interrupted_it_gives_what_is_done() -> None:
    with pytest.raises(pl.Interrupted) as stopped:
        compare(["gradient", Broken("interrupt"), "lrp"])
    partial = stopped.value.partial
    assert list(partial) == ["gradient"]
    assert partial.left_out == {"broken": "not run: interrupted", "lrp": "not run: interrupted"}
    assert "Interrupted" in partial.warnings[0]


def test_interrupted_within_a_method_it_gives_its_estimate_too() -> None:
    with pytest.raises(pl.Interrupted) as stopped:
        compare([Broken("interrupt with estimate"), "lrp"])
    partial = stopped.value.partial
    assert list(partial) == ["broken"]
    assert partial["broken"].settings["partial"] is True
    assert "the estimate so far" in partial.warnings[1]
    assert partial.left_out == {"lrp": "not run: interrupted"}


def test_interrupted_before_anything_is_done_it_is_a_plain_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        compare([Broken("interrupt"), "lrp"])
    assert not isinstance(stopped.value, pl.Interrupted)


def test_progress_counts_all_methods_together() -> None:
    told: list[tuple[int, int | None, float | None]] = []
    compare(["gradient", IntegratedGradients(steps=20)], progress=lambda *report: told.append(report))
    done, totals, left = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {3 * 21 + 2}
    assert done[-1] == totals[-1]
    assert left[-1] == 0
