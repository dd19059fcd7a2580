"""A model as the plain function of other libraries."""

from __future__ import annotations

from typing import Any

import captum.attr as captum
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.models import LoadedModel
from pellucid.testing import check_restores
from tests.trace.models import Made, convolutional, dense, numbers, seeded


def test_arrays_give_arrays_without_a_gradient() -> None:
    model, x = dense(), numbers(5, 6)
    scores = pl.as_function(model, batch_size=2)(x.numpy().astype("float64"))
    assert isinstance(scores, np.ndarray)
    assert np.allclose(scores, model(x).detach().numpy(), atol=1e-6)
    assert pl.as_function(model)(np.zeros((0, 6))).shape == (0, 3)
    assert pl.as_function(model.bfloat16())(x.numpy()).dtype == np.float32


def test_arrays_take_the_dtype_of_a_model_that_has_buffers_only() -> None:
    model = Made(lambda self, x: x @ self.table)
    model.register_buffer("table", numbers(6, 3).double())
    x = numbers(5, 6).double()
    scores = pl.as_function(model.eval())(x.numpy())
    assert scores.dtype == np.float64
    assert np.array_equal(scores, model(x).numpy())


def test_tensors_give_tensors_that_captum_can_differentiate() -> None:
    model, x = convolutional(), numbers(3, 3, 8, 8)
    f = pl.as_function(model, 1, batch_size=2)
    assert not f(x).requires_grad
    theirs = captum.IntegratedGradients(f).attribute(x, n_steps=9)
    ours = captum.IntegratedGradients(model).attribute(x, target=1, n_steps=9)
    assert torch.allclose(theirs, ours, atol=1e-6)
    with torch.no_grad():
        assert not f(x.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("target", [0, "1~rest", "2~0", "0.5*1 - 2", "0:3", lambda output: output[:, 0] ** 2, None])
def test_the_scalar_is_what_explain_explains(target: Any) -> None:
    model, x = convolutional(), numbers(3, 3, 8, 8)
    if target is None:
        assert torch.equal(pl.as_function(model)(x), model(x))
    else:
        expected = pl.explain(model, x, target=target, method="gradient").output
        assert torch.allclose(pl.as_function(model, target)(x), expected, atol=1e-6)


def test_names_and_probabilities_of_a_loaded_model() -> None:
    loaded = LoadedModel(dense(), class_names=("cat", "dog", "owl"))
    x = numbers(4, 6)
    assert torch.equal(pl.as_function(loaded, "dog")(x), loaded.module(x)[:, 1])
    rows = pl.as_function(loaded, probabilities=True)(x.numpy())
    assert np.allclose(rows.sum(1), 1, atol=1e-6)
    assert np.allclose(rows, loaded.module(x).softmax(1).detach(), atol=1e-6)


def test_pictures_come_with_channels_last() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    f = pl.as_function(model, channels_last=True)
    assert np.allclose(f(x.permute(0, 2, 3, 1).numpy()), model(x).detach(), atol=1e-6)
    assert f(np.zeros((1, 8, 8, 3), dtype=np.uint8)).shape == (1, 3)
    with pytest.raises(pl.InputError, match="channels_last=True is for pictures"):
        f(np.zeros((8, 8)))


def test_whole_numbers_are_ids_where_there_is_an_embedding() -> None:
    model = seeded(
        lambda: Made(
            lambda self, ids, x: self.head(self.table(ids).mean(1) + x), table=nn.Embedding(9, 4), head=nn.Linear(4, 2)
        )
    )
    ids, x = torch.tensor([[1, 2], [3, 4]]), numbers(2, 4)
    assert np.allclose(pl.as_function(model)(ids.numpy(), x.numpy()), model(ids, x).detach(), atol=1e-6)
    assert pl.as_function(dense())(np.ones((2, 6), dtype=int)).shape == (2, 3)


def test_it_leaves_no_trace_also_when_the_model_raises() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    f = pl.as_function(model, "0:1")
    check_restores(model, x, lambda: f(x.numpy()))
    with pytest.raises(pl.InputError, match="raised RuntimeError on inputs"):
        check_restores(model, x, lambda: f(x[:, :1]))


def test_what_cannot_be_used_is_told() -> None:
    model = dense()
    for make, text in [
        (lambda: pl.as_function(model, [0, 1]), "one target for all rows"),
        (lambda: pl.as_function(model, "nowhere:1"), "no such module"),
        (lambda: pl.as_function(model, 0, probabilities=True), "leave target= out"),
        (lambda: pl.as_function(model, batch_size=0), "batch_size as a whole number"),
        (lambda: pl.as_function(model)(), "at least one array"),
        (lambda: pl.as_function(model)(np.array([["a"]])), "arrays of numbers"),
        (lambda: pl.as_function(model)(np.float64(3)), "same number of rows"),
        (lambda: pl.as_function(lambda x: x), "torch.nn.Module"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(pl.InputError, match=text):
            make()
    with pytest.raises(pl.ModelError, match="training mode"):
        pl.as_function(nn.Sequential(nn.Dropout()))


def test_it_explains_a_function_that_takes_the_raw_output() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"a": x, "b": 2 * x}

    f = pl.as_function(Pair(), pl.targets.raw(lambda output: output["b"][:, 0]))
    assert f(torch.ones(2, 3)).tolist() == [2.0, 2.0]
