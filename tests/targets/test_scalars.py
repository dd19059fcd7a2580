"""What targets compute, against formulas written out."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pellucid.errors import InputError, TargetError
from pellucid.targets import TOP, Logit, Margin, Output, Rest, Target, Unit, parse_target

pytestmark = pytest.mark.core
# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
INF = float("inf")


def logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def rest(row: Tensor, index: int) -> Tensor:
    """A logit minus the mean of the others by their softmax, slowly: (classes,) -> ()."""
    others = torch.cat([row[:index], row[index + 1 :]])
    return row[index] - (torch.softmax(others, 0) * others).sum()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_classes(dtype: torch.dtype) -> None:
    y = logits(3, 7, dtype=dtype)
    torch.testing.assert_close(Logit(2).scalar(y, {}), y[:, 2])
    torch.testing.assert_close(Margin(2, 5).scalar(y, {}), y[:, 2] - y[:, 5])
    torch.testing.assert_close(Rest(2).scalar(y, {}), torch.stack([rest(row, 2) for row in y]))
    torch.testing.assert_close(Logit(TOP).scalar(y, {}), y.amax(1))
    assert Rest(2).scalar(y, {}).dtype == dtype


def test_the_gradient_is_the_constant_weights() -> None:
    y = logits(3, 7)
    for target in (Logit(2), Margin(2, 5), Rest(2), Rest(TOP), 0.5 * Logit(1) - Rest(3)):
        weights = target.weights(y)
        assert weights is not None
        assert not weights.requires_grad
        (gradient,) = torch.autograd.grad(target.scalar(y, {}).sum(), y)
        torch.testing.assert_close(gradient, weights)


@unhurried
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=9), st.data())
def test_rest_weights_sum_to_zero_and_ignore_a_shift(row: list[float], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(row) - 1))
    y = torch.tensor([row], dtype=torch.float64)
    weights = Rest(index).weights(y)
    assert weights[0, index] == 1
    assert abs(float(weights.sum())) < 1e-12
    assert float((weights > 0).sum()) == 1
    torch.testing.assert_close(Rest(index).weights(y + 100.0), weights)


def test_halves_are_weighed_in_float32() -> None:
    y = logits(2, 5, dtype=torch.bfloat16)
    scalar = Rest(1).scalar(y, {})
    assert scalar.dtype == torch.float32
    torch.testing.assert_close(scalar, Rest(1).scalar(y.detach().float(), {}))


def test_masked_classes_count_as_nothing() -> None:
    y = torch.tensor([[1.0, -INF, 3.0, 2.0]], dtype=torch.float64)
    open_ = y[:, [0, 2, 3]]
    torch.testing.assert_close(Logit(2).scalar(y, {}), y[:, 2])
    torch.testing.assert_close(Rest(2).scalar(y, {}), Rest(1).scalar(open_, {}))
    torch.testing.assert_close((Rest(2) - 0.5 * Logit(0)).scalar(y, {}), (Rest(1) - 0.5 * Logit(0)).scalar(open_, {}))
    message = (
        "The target uses a logit that is -inf (at (0, 1) of the output of shape (1, 4)): the model has masked that "
        "class, so there is no finite score to explain. Choose another class."
    )
    for target in (Logit(1), Rest(1), Margin(0, 1)):
        with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
            target.scalar(y, {})


def test_a_masked_logit_has_gradient_zero() -> None:
    y = torch.tensor([[1.0, -INF, 3.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(Rest(2).scalar(y, {}).sum(), y)
    assert gradient.tolist() == [[-1.0, 0.0, 1.0]]


@pytest.mark.parametrize("values", [[[1.0]], [[1.0, -INF]]])
def test_rest_needs_others(values: list[list[float]]) -> None:
    with pytest.raises(TargetError, match=r"The target 0~rest needs other classes .* leave out '~rest'\.$"):
        Rest(0).scalar(torch.tensor(values), {})


@pytest.mark.parametrize("bad", [float("nan"), INF])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    y = torch.zeros(2, 3)
    y[1, 2] = bad
    message = (
        "The model's output holds 1 values that are NaN or +inf out of 6 (the first at (1, 2) of shape (2, 3)), so "
        "there is nothing to explain. Check the input and the parameters for NaN; where the model computes in float16, "
        "overflow is the usual cause: use float32."
    )
    for target in (Logit(0), Rest(0), Logit(TOP)):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            target.scalar(y, {})


def test_outputs_that_are_no_scores_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"must hold floating-point numbers; this one is torch\.int64 of shape \(2, 3\)"
    ):
        Logit(0).scalar(torch.zeros(2, 3, dtype=torch.int64), {})
    with pytest.raises(InputError, match=r"is empty, of shape \(0, 3\)\. Give at least one sample"):
        Logit(0).scalar(torch.zeros(0, 3), {})


def test_out_of_range() -> None:
    message = "Class 7 is out of range: the model's output has 7 classes, 0 to 6."
    for target in (Logit(7), Rest(7), Margin(0, 7), Margin(7, 0)):
        with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
            target.scalar(logits(2, 7), {})
    with pytest.raises(TargetError, match=r"^Class 3 is out of range: .* only 1 value per sample, class 0\.$"):
        Logit(3).scalar(logits(4), {})
    with pytest.raises(TargetError, match="names the class 'tabby', but the model comes without class names"):
        Logit("tabby").scalar(logits(2, 7), {})
    for index in (-1, True, 2.5):
        with pytest.raises(TargetError, match=f"A class is an index of 0 or more, or a name; got {index}"):
            Logit(index)  # type: ignore[arg-type]


def test_the_top_class_against_itself() -> None:
    y = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    with pytest.raises(TargetError, match="The target top~2 sets class 2 against itself for one of the samples"):
        Margin(TOP, 2).scalar(y, {})
    assert Margin(TOP, 1).scalar(y, {}).tolist() == [1.0, 1.0]
    assert Margin(1, TOP).scalar(y, {}).tolist() == [-1.0, -1.0]


def test_output() -> None:
    assert Output().scalar(torch.tensor([3.0, 4.0]), {}).tolist() == [3.0, 4.0]
    assert Output().scalar(torch.tensor([[3.0], [4.0]]), {}).tolist() == [3.0, 4.0]
    assert Output().scalar(torch.tensor(3.0), {}).tolist() == [3.0]
    assert Logit(0).scalar(torch.tensor([3.0, 4.0]), {}).tolist() == [3.0, 4.0]
    with pytest.raises(TargetError, match=r"the output has shape \(2, 3\)\. Name a class, such as 3 or '3~rest'"):
        Output().scalar(torch.zeros(2, 3), {})


class TestPlaces:
    def test_sequences_have_classes_last(self) -> None:
        y = logits(2, 4, 5)
        torch.testing.assert_close(Logit(3, at=-1).scalar(y, {}), y[:, -1, 3])
        torch.testing.assert_close(Margin(3, 1, at=0).scalar(y, {}), y[:, 0, 3] - y[:, 0, 1])
        torch.testing.assert_close(Rest(3, at=2).scalar(y, {}), torch.stack([rest(row[2], 3) for row in y]))
        torch.testing.assert_close(Rest(3, at="all").scalar(y, {}), sum(Rest(3, at=p).scalar(y, {}) for p in range(4)))
        torch.testing.assert_close(Logit(TOP, at=1).scalar(y, {}), y[:, 1].amax(1))

    def test_dim_says_where_the_classes_are(self) -> None:
        y = logits(2, 5, 4)
        torch.testing.assert_close(parse_target("3~rest@dim1@-1").scalar(y, {}), Rest(3, at=-1).scalar(y.mT, {}))
        with pytest.raises(TargetError, match=r"units in dimension 3 \(@dim3\), but the output has shape \(2, 5, 4\)"):
            Logit(0, at="all", dim=3).scalar(y, {})

    def test_maps_have_classes_second(self) -> None:
        y = logits(2, 3, 4, 5)
        winners = y.argmax(1)
        torch.testing.assert_close(Logit(1, at=(2, -1)).scalar(y, {}), y[:, 1, 2, 4])
        torch.testing.assert_close(Logit(1, at="all").scalar(y, {}), y[:, 1].sum((1, 2)))
        masked = Logit(1, at="mask")
        torch.testing.assert_close(masked.scalar(y, {}), (y[:, 1] * (winners == 1)).sum((1, 2)))
        torch.testing.assert_close(masked.weights(y)[:, 1], (winners == 1).double())
        assert masked.weights(y)[:, [0, 2]].abs().sum() == 0
        last = y.movedim(1, -1)
        torch.testing.assert_close(Rest(1, at="mask", dim=3).scalar(last, {}), Rest(1, at="mask").scalar(y, {}))

    def test_top_of_a_region_wins_most_positions(self) -> None:
        y = torch.zeros(2, 3, 2, 2)
        y[0, 2, 0], y[0, 1, 1, 0] = 1.0, 100.0
        y[1, 1] = 1.0
        assert str(Logit(TOP, at="mask").fix(y)) == "[2@mask, 1@mask]"
        assert Logit(TOP, at="mask").scalar(y, {}).tolist() == [2.0, 4.0]

    def test_a_single_map_is_masked_above_zero(self) -> None:
        y = torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]])
        assert Logit(0, at="mask").scalar(y, {}).tolist() == [4.0]

    def test_an_empty_region_is_an_error(self) -> None:
        y = torch.zeros(2, 3, 2, 2)
        y[:, 0], y[0, 1, 0, 0] = 1.0, 2.0
        message = (
            "Class 1 is on top at no position of sample 1, so the region of 1@mask is empty. Choose another class, a "
            "position, or '@all' for the sum over all positions."
        )
        with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
            Logit(1, at="mask").scalar(y, {})

    def test_positions_are_checked(self) -> None:
        y = logits(2, 3, 4, 5)
        with pytest.raises(
            TargetError, match=r"^The position @1 has 1 coordinate\(s\), but the output has positions of sh"
        ):
            Logit(1, at=1).scalar(y, {})
        message = (
            "The position @1,5 is out of range: the output has positions of shape (4, 5), and coordinate 5 must lie "
            "between -5 and 4."
        )
        with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
            Logit(1, at=(1, 5)).scalar(y, {})
        with pytest.raises(
            TargetError, match=r"^The target 1@mask names a place, but the output of shape \(2, 3\) has no"
        ):
            Logit(1, at="mask").scalar(y[:, :, 0, 0], {})
        with pytest.raises(
            TargetError, match="must be a position such as -1 or \\(3, 5\\), or 'mask' or 'all'; got 'msk'"
        ):
            Logit(1, at="msk")  # type: ignore[arg-type]

    def test_a_class_of_a_dense_output_offers_choices(self) -> None:
        message = (
            "The output has shape (2, 3, 4, 6), read as 3 classes at each of 4 x 6 positions, so a class alone is not "
            "one number per sample. Choose a position, '1@2,3'; the region where the class is on top, '1@mask'; the "
            "sum over all positions, '1@all'; '~rest' may stand before the '@', and 'top' for the class on top; or "
            "give a callable such as lambda y: y[:, 1].sum((1, 2))."
        )
        for target in (Logit(1), Margin(1, 2), Rest(1)):
            with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
                target.scalar(logits(2, 3, 4, 6), {})


class TestUnits:
    def test_means_and_positions(self) -> None:
        flat, tokens, maps = logits(2, 6), logits(2, 4, 6), logits(2, 6, 3, 4)
        acts = {"flat": flat, "tokens": tokens, "maps": maps}
        for text, expected in [
            ("flat:5", flat[:, 5]),
            ("tokens:5", tokens[:, :, 5].mean(1)),
            ("tokens:5@-1", tokens[:, -1, 5]),
            ("tokens:3@dim1", tokens[:, 3].mean(1)),
            ("maps:5", maps[:, 5].mean((1, 2))),
            ("maps:5@1,-1", maps[:, 5, 1, 3]),
            ("maps:3@dim3", maps[..., 3].mean((1, 2))),
            ("flat:5 - 2*maps:0", flat[:, 5] - 2 * maps[:, 0].mean((1, 2))),
        ]:
            torch.testing.assert_close(parse_target(text).scalar(None, acts), expected)

    def test_with_logits(self) -> None:
        y, act = logits(2, 3), logits(2, 6, seed=1)
        target = Rest(1) - 0.5 * Unit("a", 4)
        assert target.layers() == ("a",)
        assert target.takes_raw
        assert target.weights(y) is None
        torch.testing.assert_close(
            target.scalar({"logits": y, "hidden": act}, {"a": act}), Rest(1).scalar(y, {}) - 0.5 * act[:, 4]
        )

    def test_errors(self) -> None:
        acts = {"layer4.conv2": logits(2, 6, 3, 4), "fc": logits(2, 6)}
        with pytest.raises(TargetError, match=r"Recorded layers with similar names: layer4\.conv2\.$"):
            Unit("conv2", 3).scalar(None, acts)
        message = (
            "Unit 6 is out of range: the activation of 'layer4.conv2' has shape (2, 6, 3, 4) with 6 units, 0 to 5, in "
            "dimension 1. If the units are in another one, add '@dim1' or so."
        )
        with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
            Unit("layer4.conv2", 6).scalar(None, acts)
        with pytest.raises(TargetError, match=r"The position @1 has 1 coordinate"):
            Unit("layer4.conv2", 0, at=1).scalar(None, acts)
        with pytest.raises(
            TargetError, match=r"names a position, but the activation of 'fc' .* has none\. Leave out '@1'"
        ):
            Unit("fc", 0, at=1).scalar(None, acts)


class TestAlgebra:
    def test_sums_are_what_they_say(self) -> None:
        y = logits(3, 7)
        target = 0.5 * Logit(1) - Rest(2) / 4 + 3 * Margin(0, 1)
        expected = 0.5 * y[:, 1] - torch.stack([rest(row, 2) for row in y]) / 4 + 3 * (y[:, 0] - y[:, 1])
        torch.testing.assert_close(target.scalar(y, {}), expected)
        assert str(target) == "0.5*1 - 0.25*2~rest + 3*0~1"

    def test_normal_form(self) -> None:
        a, b = Logit(1), Logit(2)
        assert a + a == 2 * a
        assert 1.0 * a == a
        assert a - b + b == a
        assert -1 * -a == a
        assert sum([a, b]) == a + b
        assert 2 * (a - b) == 2 * a - 2 * b
        assert hash(a + b) == hash(Logit(1) + Logit(2))

    def test_refusals(self) -> None:
        with pytest.raises(TargetError, match=r"^The combination of 1 cancels to zero"):
            Logit(1) - Logit(1)
        with pytest.raises(TargetError, match=r"^The factor of 1 in a combination must be a finite number; got inf\.$"):
            INF * Logit(1)
        for other in ("x", None, Logit):
            with pytest.raises(TypeError):
                Logit(1) + other  # type: ignore[operator]
        with pytest.raises(TypeError):
            Logit(1) * Logit(2)  # type: ignore[operator]

    def test_targets_are_frozen(self) -> None:
        targets: list[tuple[Target, str]] = [
            (Logit(1), "index"),
            (Unit("a", 1), "unit"),
            (Logit(1) + Logit(2), "terms"),
        ]
        for target, field in targets:
            with pytest.raises(AttributeError):
                setattr(target, field, 5)
