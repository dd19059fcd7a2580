"""What the flight check says of every method is what explaining does: it fits, or the reason why not, on one line."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import methods
from pellucid.testing import check_restores
from tests.methods.light import lightened
from tests.trace.models import MODELS, Made, dense, numbers, pooled, recurrent, seeded


def one_output() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)))


def without_relu() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    )


def cut() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.head(self.stop(torch.relu(self.body(x))).mean((2, 3)))

    stop = Made(lambda _, x: x.detach())
    return seeded(lambda: Made(forward, body=nn.Conv2d(3, 4, 3), stop=stop, head=nn.Linear(4, 3)))


def without_grad() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.head(torch.relu(self.body(x)).mean((2, 3)))

    return seeded(lambda: Made(forward, body=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 3)))


def strange() -> nn.Module:
    class Curious(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return 2 * gradient

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.body(Curious.apply(x))

    return seeded(lambda: Made(forward, body=pooled()))


def twice() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.inner(torch.relu(self.inner(x)))).mean((2, 3)))

    return seeded(lambda: Made(forward, inner=nn.Conv2d(3, 3, 3), head=nn.Linear(3, 3), idle=nn.Linear(3, 3)))


def words(indexing: bool) -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.table.weight[x] if indexing else self.table(x)).mean(1))

    return seeded(lambda: Made(forward, table=nn.Embedding(9, 6), head=nn.Linear(6, 3)))


PICTURES = numbers(2, 3, 8, 8)
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, str | None]] = {
    **{name: (build, numbers(*shape)[:2], None) for name, (build, shape) in MODELS.items()},
    "a lone sample": (recurrent, numbers(1, 5, 6), None),
    "pooled": (pooled, PICTURES, None),
    "one output": (one_output, PICTURES, None),
    "without relu": (without_relu, PICTURES, None),
    "cut": (cut, PICTURES, None),
    "cut before the layer": (cut, PICTURES, "head"),
    "cut after the layer": (cut, PICTURES, "body"),
    "without grad": (without_grad, PICTURES, None),
    "unknown": (strange, PICTURES, None),
    "a layer": (pooled, PICTURES, "1"),
    "a layer that runs twice": (twice, PICTURES, "inner"),
    "a layer that does not run": (twice, PICTURES, "idle"),
    "words": (lambda: words(False), IDS, None),
    "words by index": (lambda: words(True), IDS, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_what_explaining_does(case: str) -> None:
    build, x, layer = CASES[case]
    model = build()
    found = check_restores(model, x, lambda: pl.check(model, x, target=0, layer=layer))
    assert [fit.method for fit in found.methods] == list(methods())
    wrong = []
    for fit in found.methods:
        assert "\n" not in fit.reason
        try:
            method = fit.method if fit.method == "feature-permutation" else lightened(fit.method)
            pl.explain(model, x, target=0, method=method, layer=layer)
            error = ""
        except pl.PellucidError as raised:
            error = str(raised)
        if fit.fits != (not error):
            wrong.append(f"{fit.method}: said {fit.reason or 'that it fits'!r}, and got {error or 'a result'!r}")
    assert not wrong, "\n".join(wrong)


def rows(case: str) -> dict[str, Any]:
    build, x, layer = CASES[case]
    return {fit.method: fit for fit in pl.check(build(), x, target=0, layer=layer).methods}


def test_the_layer_to_blame_is_named() -> None:
    cut_off = rows("cut")
    for name in ("lrp", "gradient", "integrated-gradients", "deeplift", "xrai", "fullgrad", "smoothgrad"):
        assert "stop" in cut_off[name].reason, cut_off[name]
    assert cut_off["rise"].fits
    assert "'inner'" in rows("a layer that runs twice")["integrated-gradients"].reason
    assert "'idle'" in rows("a layer that does not run")["lrp"].reason
    for name in ("clrp", "finer-cam"):
        assert "several classes" in rows("one output")[name].reason


def test_a_model_without_a_graph_has_its_table() -> None:
    model = without_grad()
    found = pl.check(model, PICTURES, target=0)
    assert not found.ok
    assert "computed without a gradient graph" in found.warnings[0]
    assert "sources: none" in str(found)
    with pytest.raises(pl.ModelError, match="computed without a gradient graph"):
        pl.explain(model, PICTURES, target=0)


def test_without_relu_guided_backprop_is_the_gradient_and_says_so() -> None:
    told = rows("without relu")
    gradient = pl.explain(without_relu(), PICTURES, target=0, method="gradient").relevance
    for name in ("guided-backprop", "deconvnet"):
        assert "No ReLU" in told[name].remark
        result = pl.explain(without_relu(), PICTURES, target=0, method=name)
        assert any("No ReLU" in note for note in result.warnings)
        assert torch.allclose(result.relevance, gradient, rtol=1e-5, atol=1e-7)
        assert not rows("pooled")[name].remark
        assert not any("No ReLU" in note for note in pl.explain(pooled(), PICTURES, target=0, method=name).warnings)
    assert "No ReLU" in told["guided-grad-cam"].remark
    line = next(line for line in str(pl.check(without_relu(), PICTURES, target=0)).splitlines() if "deconvnet" in line)
    assert line.endswith("so that this is the plain gradient.")


@pytest.mark.parametrize(("library", "name"), [("skimage", "xrai"), ("sklearn", "lime")])
def test_a_library_that_is_not_there_is_named(library: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def imported(wanted: str, *given: Any, **more: Any) -> Any:
        if wanted.partition(".")[0] == library:
            raise ImportError(f"No module named {library!r}")
        return real(wanted, *given, **more)

    for known in [known for known in sys.modules if known.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, known, None)
    monkeypatch.setattr(builtins, "__import__", imported)
    found = {fit.method: fit for fit in pl.check(pooled(), PICTURES, target=0).methods}
    assert library in found[name].reason
    assert "pip install" in found[name].reason
    with pytest.raises(pl.MissingDependencyError):
        pl.explain(pooled(), PICTURES, target=0, method=lightened(name))


def test_layer_inputs_and_memory_change_the_verdict() -> None:
    def forward(self: Any, x: Tensor, y: Tensor) -> Tensor:
        return self.head(torch.relu(x) + y.detach())

    model, x = seeded(lambda: Made(forward, head=nn.Linear(6, 3))), {"x": numbers(2, 6), "y": numbers(2, 6)}
    assert {fit.method: fit for fit in pl.check(model, x, target=0).methods}["gradient"].fits
    alone = {fit.method: fit for fit in pl.check(model, x, target=0, inputs="y").methods}
    assert not alone["gradient"].fits
    assert alone["occlusion"].fits
    with pytest.raises(pl.InputError, match="no module 'none'"):
        pl.check(dense(), numbers(2, 6), layer="none")
    with pytest.raises(pl.InputError, match="one sample alone needs"):
        pl.check(dense(), numbers(2, 6), memory=1)
    fitting = pl.check(dense(), numbers(5, 6), memory="1MB")
    assert len(fitting.target) == 5
    assert all(fit.fits for fit in fitting.methods if fit.method in ("lrp", "gradient", "rise"))
    assert pl.check(dense(), numbers(2, 6).double(), dtype="float32", device="cpu").ok
