"""Coercion, one target per sample, defaults, and functions."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.errors import InputError, TargetError
from pellucid.targets import (
    TOP,
    Default,
    Function,
    Logit,
    Output,
    PerSample,
    Rest,
    Unit,
    default_target,
    parse_target,
    raw,
    resolve_targets,
)

pytestmark = pytest.mark.core


def logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


def second(y: Tensor) -> Tensor:
    return y[:, 1]


class TestCoercion:
    @pytest.mark.parametrize("spec", [3, np.int64(3), torch.tensor(3), "3", Logit(3)])
    def test_single(self, spec: object) -> None:
        assert parse_target(spec) == Logit(3)  # type: ignore[arg-type]
        assert resolve_targets(spec, 2) == Logit(3)
        assert type(resolve_targets(spec, 2).index) is int  # type: ignore[attr-defined]

    def test_function_and_none(self) -> None:
        assert parse_target(second) == Function(second)
        assert parse_target(None) == Default()
        assert parse_target(torch.nn.Flatten(0)).describe(None) == "Flatten"

    @pytest.mark.parametrize(
        "spec", [["1", 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2]), [Logit(1), Logit(2)], ["1", np.int32(2)]]
    )
    def test_one_per_sample(self, spec: object) -> None:
        assert resolve_targets(spec, 2) == PerSample((Logit(1), Logit(2)))

    def test_equal_ones_become_one(self) -> None:
        assert resolve_targets([1, "1"], 2) == Logit(1)

    def test_the_length_must_fit(self) -> None:
        message = (
            "A list of targets has one per sample: got 3 for a batch of 2. To explain several targets of every sample "
            "use targets=[...]; a place in a dense output is written '15@3,5'."
        )
        with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
            resolve_targets([1, 2, 3], 2)

    @pytest.mark.parametrize("spec", [True, 2.5, torch.tensor(2.5), {"a": 1}, [[1], [2]]])
    def test_anything_else_is_refused(self, spec: object) -> None:
        with pytest.raises(
            TargetError, match=r"^A target must be a class index, a string such as '285~rest', a callable"
        ):
            resolve_targets(spec, 2)


class TestDefault:
    def test_top_class_against_the_rest(self) -> None:
        y = torch.tensor([[0.0, 1.0, 5.0], [9.0, 1.0, 5.0]], requires_grad=True)
        target = default_target(y)
        assert target == PerSample((Rest(2), Rest(0)))
        torch.testing.assert_close(
            target.scalar(y, {}), torch.cat([Rest(2).scalar(y[:1], {}), Rest(0).scalar(y[1:], {})])
        )
        assert Default().fix(y) == target
        torch.testing.assert_close(Default().scalar(y, {}), target.scalar(y, {}))
        assert default_target(y[:1]) == Rest(2)

    def test_it_stays_with_the_class_it_had(self) -> None:
        target = default_target(torch.tensor([[0.0, 1.0]]))
        assert target.scalar(torch.tensor([[7.0, 1.0]]), {}).tolist() == [-6.0]

    @pytest.mark.parametrize("shape", [(3,), (3, 1), ()])
    def test_a_single_output(self, shape: tuple[int, ...]) -> None:
        y = logits(*shape)
        assert default_target(y) == Output()
        torch.testing.assert_close(default_target(y).scalar(y, {}), y.reshape(-1))

    @pytest.mark.parametrize(
        ("shape", "text"),
        [
            (
                (2, 21, 8, 6),
                "No target was given, and there is no natural one. The output has shape (2, 21, 8, 6), read as 21 "
                "classes at each of 8 x 6 positions, so a class alone is not one number per sample. Choose a position, "
                "'top@4,3'; the region where the class is on top, 'top@mask'; the sum over all positions, 'top@all'; "
                "'~rest' may stand before the '@', and 'top' for the class on top; or give a callable such as lambda "
                "y: y[:, c].sum((1, 2)) with c the class.",
            ),
            (
                (2, 7, 50),
                "No target was given, and there is no natural one. The output has shape (2, 7, 50), read as 50 classes "
                "at each of 7 positions, so a class alone is not one number per sample. Choose a position, 'top@-1'; "
                "the region where the class is on top, 'top@mask'; the sum over all positions, 'top@all'; '~rest' may "
                "stand before the '@', and 'top' for the class on top; or give a callable such as lambda y: y[:, :, "
                "c].sum(1) with c the class. Classes in dimension 1 are written '@dim1'.",
            ),
        ],
    )
    def test_dense_outputs_offer_choices(self, shape: tuple[int, ...], text: str) -> None:
        with pytest.raises(TargetError, match=f"^{re.escape(text)}$"):
            default_target(logits(*shape))

    def test_every_choice_offered_works(self) -> None:
        maps, tokens = logits(2, 21, 8, 6), logits(2, 7, 50)
        c = 3
        offers: list[tuple[object, Tensor]] = [(f"top{r}@4,3", maps) for r in ("", "~rest")]
        offers += [(f"{index}@all", y) for index in ("top", c) for y in (maps, tokens)]
        offers += [("top@mask", maps), ("top@mask", tokens), ("top@-1", tokens), ("top~rest@-1@dim1", tokens)]
        offers += [(lambda y: y[:, c].sum((1, 2)), maps), (lambda y: y[:, :, c].sum(1), tokens)]
        for offer, y in offers:
            assert resolve_targets(offer, 2).scalar(y, {}).shape == (2,)

    def test_nan_is_refused(self) -> None:
        with pytest.raises(InputError, match="NaN"):
            default_target(torch.full((2, 3), float("nan")))


class TestFix:
    def test_compound_targets(self) -> None:
        y = torch.tensor([[0.0, 1.0, 5.0], [9.0, 1.0, 5.0]])
        fixed = resolve_targets("top - 0.5*1", 2).fix(y)
        assert fixed == PerSample((Logit(2) - 0.5 * Logit(1), Logit(0) - 0.5 * Logit(1)))
        mixed = resolve_targets(["top", None], 2).fix(y)
        assert mixed == PerSample((Logit(2), Rest(0)))
        assert resolve_targets("1~rest", 2).fix(y) == Rest(1)

    def test_values_do_not_change(self) -> None:
        y = logits(4, 5)
        for spec in ("top", "top~rest", "2*top - 1~rest", None, ["top", 1, None, "top~rest"]):
            target = resolve_targets(spec, 4)
            torch.testing.assert_close(target.fix(y).scalar(y, {}), target.scalar(y, {}))

    def test_dense(self) -> None:
        y = logits(2, 4, 3, 3)
        assert str(resolve_targets("top@0,0", 2).fix(y)) == f"[{int(y[0, :, 0, 0].argmax())}@0,0, " + (
            f"{int(y[1, :, 0, 0].argmax())}@0,0]"
        )

    def test_raw_compounds_find_the_logits(self) -> None:
        y, act = torch.tensor([[0.0, 1.0, 5.0], [9.0, 1.0, 5.0]]), torch.ones(2, 4)
        target = Logit(TOP) + Unit("a", 1)
        fixed = target.fix({"logits": y, "hidden": act})
        assert fixed == PerSample((Logit(2) + Unit("a", 1), Logit(0) + Unit("a", 1)))
        assert fixed.takes_raw
        assert fixed.scalar({"logits": y, "hidden": act}, {"a": act}).tolist() == [6.0, 10.0]


class TestPerSample:
    def test_linear_parts(self) -> None:
        y = logits(4, 5)
        parts = [Logit(1), Rest(2), Logit(1), 0.5 * Logit(3) - Logit(0)]
        target = resolve_targets(parts, 4)
        expected = torch.cat([part.scalar(y[i : i + 1], {}) for i, part in enumerate(parts)])
        torch.testing.assert_close(target.scalar(y, {}), expected)
        weights = target.weights(y)
        assert weights is not None
        torch.testing.assert_close((weights * y).sum(1), expected)

    def test_other_parts(self) -> None:
        y, act = logits(4, 5), logits(4, 6)
        target = resolve_targets([second, "3", "a:2", second], 4)
        assert target.weights(y) is None
        assert target.layers() == ("a",)
        expected = torch.stack([y[0, 1], y[1, 3], act[2, 2], y[3, 1]])
        torch.testing.assert_close(target.scalar(y, {"a": act}), expected)

    def test_one_sample_does_not_need_the_others_to_be_finite(self) -> None:
        y = torch.tensor([[1.0, -float("inf")], [-float("inf"), 2.0]])
        assert resolve_targets([0, 1], 2).scalar(y, {}).tolist() == [1.0, 2.0]

    def test_the_batch_must_fit(self) -> None:
        message = (
            "There are 2 targets, one per sample, but the model's output has 3 samples. Give one target for all "
            "samples, or a list with one per sample."
        )
        for target in (resolve_targets([0, 1], 2), resolve_targets([second, 1], 2)):
            with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
                target.scalar(logits(3, 2), {})

    def test_one_output_per_sample(self) -> None:
        y = torch.tensor([3.0, 4.0])
        assert resolve_targets(["0", "-output"], 2).scalar(y, {}).tolist() == [3.0, -4.0]


class TestFunctions:
    def test_value(self) -> None:
        y = logits(3, 2)
        torch.testing.assert_close(resolve_targets(second, 3).scalar(y, {}), y[:, 1])
        torch.testing.assert_close(resolve_targets(lambda y: y.sum(), 1).scalar(y[:1], {}), y[:1].sum().reshape(1))
        torch.testing.assert_close((Function(second) - 0.5 * Logit(0)).scalar(y, {}), y[:, 1] - 0.5 * y[:, 0])

    def test_identity_and_name(self) -> None:
        assert Function(second) == Function(second)
        assert hash(Function(second)) == hash(Function(second))
        assert Function(second) != raw(second)
        assert Function(second) != Logit(1)
        assert Function(second).describe(None) == "second"
        assert raw(lambda y: y, name="mean score").describe(None) == "mean score"

    def test_raw_output(self) -> None:
        output = {"hidden": logits(2, 3), "pooled": logits(2, 3)}
        target = raw(lambda output: output["pooled"].sum(1))
        assert target.takes_raw
        assert not Function(second).takes_raw
        torch.testing.assert_close(target.scalar(output, {}), output["pooled"].sum(1))
        doubled = resolve_targets([target, 2 * target], 2)
        torch.testing.assert_close(doubled.scalar(output, {}), output["pooled"].sum(1) * torch.tensor([1.0, 2.0]))

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (
                lambda y: float(y.detach()[0, 0]),
                "The target function <lambda> must return a tensor of shape (3,), one number per sample; it returned "
                "float. Keep to torch operations, without .item() or NumPy.",
            ),
            (
                lambda y: y.argmax(1),
                "The target function <lambda> must return floating-point numbers; it returned torch.int64, which has "
                "no gradient. Return a score, not an index or a comparison.",
            ),
            (
                lambda y: y.sum(),
                "The target function <lambda> must return a tensor of shape (3,), one number per sample; it returned "
                "shape (). Pick or sum over the other dimensions, but not over the batch, for example lambda y: y[:, "
                "3].",
            ),
            (
                lambda y: y[:, :1],
                "The target function <lambda> must return a tensor of shape (3,), one number per sample; it returned "
                "shape (3, 1). Pick or sum over the other dimensions, but not over the batch, for example lambda y: "
                "y[:, 3].",
            ),
            (
                lambda y: y[:, 0] * float("nan"),
                "The target function <lambda> returned NaN or infinite values: [nan, nan, nan]. Check what it does "
                "with masked or zero scores.",
            ),
        ],
    )
    def test_bad_results(self, function: Callable[[Tensor], Tensor], message: str) -> None:
        with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
            Function(function).scalar(logits(3, 2), {})

    def test_an_exception_inside_passes_through(self) -> None:
        def fails(y: Tensor) -> Tensor:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            Function(fails).scalar(logits(3, 2), {})
