"""What a caller gives wrong is refused with one paragraph that says what was expected, what came, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.engine.inputs import prepare
from pellucid.errors import FileError, InputError, ModelError, PellucidError, TargetError
from pellucid.models import LoadedModel
from pellucid.testing import check_restores
from tests.trace.models import Made, convolutional, dense, numbers

pytestmark = pytest.mark.core

X = numbers(4, 6)


def refused(model: Any, x: Any, expected: type[PellucidError], text: str, **settings: Any) -> str:
    """Explain and check refuse this with the same words, and change nothing."""
    settings.setdefault("target", 0)
    watched = model if isinstance(model, nn.Module) else nn.Identity()
    with pytest.raises(expected, match=text) as caught:
        check_restores(watched, x, lambda: pl.explain(model, x, **settings))
    message = str(caught.value)
    assert "\n\n" not in message
    assert not re.search(r"[a-z](?:  )", message)
    assert message[0].isupper() or message.split("=")[0] in settings
    assert message.endswith((".", ")", "'", "None")), message
    return message


def test_wrong_shape() -> None:
    text = r"The model Sequential raised RuntimeError on this input: .*was \{'x': \(\(4, 7\), 'torch.float32'\)\}"
    refused(dense(), numbers(4, 7), InputError, text)
    refused(
        convolutional(), numbers(3, 8, 8), InputError, r"check that shapes and dtypes .* \(a batch dimension first\)"
    )
    refused(dense(), X[0], InputError, r"one value per sample, shape \(6,\), but it has shape \(3,\)")
    refused(dense(), X[:0], InputError, "at least one sample, got an input whose first dimension is 0")
    refused(dense(), torch.tensor(1.0), InputError, "is a single number; expected a first dimension of samples")
    two = Made(lambda self, a, b: self.layer(a[:2] + b[:2]), layer=nn.Linear(6, 3)).eval()
    refused(two, (X, X[:2]), InputError, r"different numbers of samples: \{")


def test_wrong_dtype() -> None:
    text = r"The input 'x' has dtype torch.float64 but the model's parameters have torch.float32.* or pass dtype="
    refused(dense(), X.double(), InputError, text)
    refused(dense().half(), X, InputError, r"has dtype torch.float32 but the model's parameters have torch.float16")
    refused(dense(), torch.ones(4, 6, dtype=torch.long), InputError, r"must have the same dtype.*'torch.int64'")
    refused(dense(), X, InputError, r"Expected dtype as a floating torch.dtype or its name .* got 'int8'", dtype="int8")


def test_input_and_model_on_two_devices() -> None:
    """The check itself, as there may be one device only: an input here, a parameter elsewhere."""
    with pytest.raises(InputError) as caught:
        prepare({"image": X}, inputs=None, dtype=None, device=None, like=torch.empty(1, device="meta"))
    text = "The input 'image' is on cpu but the model is on meta. Move one of them, or pass device=."
    assert str(caught.value) == text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_input_and_model_on_cpu_and_gpu() -> None:
    refused(dense().cuda(), X, InputError, "The input 'x' is on cpu but the model is on cuda:0. Move one of them")


def test_wrong_device() -> None:
    refused(dense(), X.to("meta"), InputError, "The input 'x' is on the 'meta' device: it has a shape but no values")


def test_not_finite_input() -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        x = X.clone()
        x[1, 2] = bad
        refused(
            dense(),
            x,
            InputError,
            r"The explained input 'x' holds 1 values that are NaN or infinite, of 24.*nan_to_num",
        )


def test_a_mask_may_hold_minus_infinity() -> None:
    model = Made(
        lambda self, x, attention_mask: self.layer((x + attention_mask).softmax(-1)), layer=nn.Linear(6, 3)
    ).eval()
    mask = torch.zeros(4, 6)
    mask[:, 4:] = -float("inf")
    result = pl.explain(model, {"x": X, "attention_mask": mask}, target=0)
    assert set(result.relevance) == {"x"}
    assert bool(torch.isfinite(result.relevance["x"]).all())
    assert result.ledger is not None
    assert result.ledger.closed(1e-4)
    refused(
        model, {"x": X, "attention_mask": mask}, InputError, "'attention_mask' holds 8", inputs=["attention_mask", "x"]
    )


def test_what_is_no_input() -> None:
    refused(dense(), X.numpy(), InputError, "Expected x as a tensor, a tuple or a dict of tensors, got ndarray")
    refused(dense(), None, InputError, "got NoneType")
    refused(dense(), [1, 2], InputError, "Expected at least one tensor in x, got none")
    refused(dense(), {}, InputError, "Expected at least one tensor in x, got none")
    refused(dense(), {"wrong": X}, InputError, r"unexpected keyword argument 'wrong'")
    refused(dense(), X.to_sparse(), InputError, "has the layout torch.sparse_coo; expected a dense tensor")
    refused(
        dense(), {"x": X}, InputError, r"names inputs that are not there: \['z'\]. The inputs are: \['x'\]", inputs="z"
    )


def test_what_is_no_model() -> None:
    refused(lambda x: x, X, InputError, "Expected a torch.nn.Module or a LoadedModel, got function")
    refused(Made(lambda self, x: "words").eval(), X, InputError, "returned a str without a floating-point tensor")
    refused(Made(lambda self, x: None).eval(), X, InputError, "NoneType|nothing|None")


def named(model: nn.Module) -> LoadedModel:
    return LoadedModel(model, ("tabby cat", "tiger cat", "dog"), None, None, "test")


TARGETS: list[tuple[Callable[[nn.Module], Any], Any, str]] = [
    (lambda m: m, 7, r"Class 7 is out of range: the model's output has 3 classes, 0 to 2"),
    (lambda m: m, -1, r"A class is an index of 0 or more, or a name; got -1"),
    (lambda m: m, "tabby", r"names the class 'tabby', but the model comes without class names"),
    (named, "tiger cta", r"tiger cat"),
    (named, "horse", r"horse"),
    (named, "cat", r"tabby cat.*tiger cat|no class"),
    (lambda m: m, [0, 1], r"A list of targets has one per sample: got 2 for a batch of 4"),
    (lambda m: m, 1.5, r"1\.5"),
    (
        lambda m: m,
        lambda y: y.sum(),
        r"must return a tensor of shape \(4,\), one number per sample; it returned shape \(\)",
    ),
    (lambda m: m, lambda y: 3.0, r"float"),
    (lambda m: m, "0~", r"0~"),
    (lambda m: m, "nowhere:3", r"nowhere"),
    (lambda m: m, "0:99", r"99"),
]


@pytest.mark.parametrize(("wrap", "target", "text"), TARGETS, ids=[text[:24] for _, _, text in TARGETS])
def test_targets(wrap: Callable[[nn.Module], Any], target: Any, text: str) -> None:
    model = dense()
    with pytest.raises(TargetError, match=text) as caught:
        check_restores(model, X, lambda: pl.explain(wrap(model), X, target=target))
    assert "\n\n" not in str(caught.value)


def test_dense_outputs_offer_choices() -> None:
    with pytest.raises(TargetError, match=r"dense|positions|shape"):
        pl.explain(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), numbers(2, 3, 5, 5))


def test_other_arguments() -> None:
    model = dense()
    refused(model, X, InputError, "No method is called 'lpr'. Did you mean 'lrp'", method="lpr")
    refused(model, X, InputError, r"No composite is called 'eps'. Expected one of: attn-lrp, auto", composite="eps")
    refused(model, X, InputError, r"Expected a composite's name or a Composite, got 3 \(int\)", composite=3)
    refused(model, X, InputError, r"The model has no module '9'\. Names are those of model.named_modules", layer="9")
    refused(model, X, InputError, r"the module has the units 0 to 7 .* got \[9\]", keep={"0": [9]})
    refused(model, X, InputError, r"target= .* or targets= .* not both", targets=[0])
    refused(model, X, InputError, "targets= is empty", target=None, targets=[])
    refused(model, X, InputError, "positive number of bytes or text such as '2GB'", memory="plenty")
    refused(model, X, InputError, "one sample alone needs about [0-9]+ bytes", memory=10)


def test_a_target_of_a_users_own_that_raises_is_not_hidden() -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        pl.explain(dense(), X, target=lambda y: y[:, 99])


def test_the_cause_of_a_failing_forward_is_kept() -> None:
    def fail(self: Any, x: Tensor) -> Tensor:
        raise KeyError("vocabulary")

    with pytest.raises(InputError, match="raised KeyError on this input: 'vocabulary'") as caught:
        pl.explain(Made(fail).eval(), X, target=0)
    assert isinstance(caught.value.__cause__, KeyError)


def test_bad_input_is_also_a_value_error() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        pl.explain(dense(), torch.from_numpy(np.full((4, 6), np.nan, np.float32)), target=0)
    assert not issubclass(ModelError, ValueError)


def test_very_long_texts_are_shortened() -> None:
    """An error may quote a file, whose words may be of any length."""
    text = str(FileError("start " + "x" * 10**6 + " end"))
    assert len(text) < 8100
    assert text.startswith("start x")
    assert text.endswith("x end")
