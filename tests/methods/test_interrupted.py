"""Ctrl-C in the middle of long work gives what there is so far, marked so, and leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid._api import Request
from pellucid.methods import method_named
from pellucid.testing import check_restores
from tests.methods.watching import Watched
from tests.trace.models import convolutional, numbers, seeded

GRID = "patches:4"
LONG: dict[str, dict[str, Any]] = {
    "rise": {"samples": 40},
    "lime": {"samples": 40, "features": GRID},
    "occlusion": {"window": 2, "stride": 2},
    "feature-ablation": {"features": "patches:3"},
    "feature-permutation": {"background": ["zero", "mean", "min", "max"], "permutations": 4, "features": GRID},
    "kernel-shap": {"samples": 40, "features": "patches:3"},
    "permutation-shapley": {"samples": 64, "features": "patches:3"},
    "exact-shapley": {"features": "patches:4x3"},
    "owen-values": {"samples": 64, "features": "patches:3"},
    "sobol": {"samples": 36, "features": GRID},
    "hsic": {"samples": 36, "features": GRID},
    "xrai": {"steps": 16},
    "score-cam": {},
    "ablation-cam": {"relu": False},
    "deep-shap": {"background": numbers(8, 3, 8, 8, seed=5)},
    "smooth-grad-cam++": {"samples": 20, "noise": 1.0},
    "smoothgrad": {"samples": 30},
    "integrated-gradients": {"steps": 16},
    "internal-influence": {"steps": 16},
    "expected-gradients": {"samples": 24, "background": ["zero", "mean"]},
    "gradient-shap": {"samples": 24, "background": ["zero", "mean"], "noise": 0.1},
}


class Passes:
    """Counts passes, and raises KeyboardInterrupt in one of them."""

    def __init__(self) -> None:
        self.done = 0
        self.limit: int | None = None

    def __call__(self, _: Tensor) -> None:
        self.done += 1
        if self.done == self.limit:
            raise KeyboardInterrupt

    def again(self, limit: int | None = None) -> None:
        self.done, self.limit = 0, limit

    def __deepcopy__(self, _: object) -> Passes:
        return self


def wide() -> nn.Module:
    def build() -> nn.Module:
        head = nn.Linear(144, 8), nn.Tanh(), nn.Linear(8, 3)
        return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), *head)

    return seeded(build)


def memory_for(model: nn.Module, x: Tensor, rows: float) -> int:
    plenty = 2**50
    return int(rows * plenty / Request(model, memory=plenty).call(x).affordable) + 1


def stopped(run: Any, model: nn.Module, x: Tensor, passes: Passes, share: float) -> Any:
    """The whole result, and what Ctrl-C gives after a share of the passes."""
    run()  # what is found out once for a model is known from now on
    passes.again()
    whole = run()
    passes.again(max(1, round(share * passes.done)))
    with pytest.raises(KeyboardInterrupt) as caught:
        check_restores(model, x, run)
    assert isinstance(caught.value, pl.Interrupted)
    passes.again()
    return whole, caught.value.partial


@pytest.mark.parametrize("name", LONG)
def test_the_estimate_so_far_is_given(name: str) -> None:
    passes = Passes()
    model, x = Watched(wide(), passes), numbers(2, 3, 8, 8)
    method = method_named(name).with_settings(**LONG[name])
    memory = memory_for(model, x, 4.5)
    run = lambda: pl.explain(model, x, target=0, method=method, memory=memory)  # noqa: E731
    whole, partial = stopped(run, model, x, passes, 0.7)
    assert partial.settings["partial"] is True
    assert partial.warnings[0] == "Interrupted: this is the estimate so far, not the final one."
    assert partial.relevance.shape == x.shape
    assert bool(torch.isfinite(partial.relevance).all())
    assert float(partial.relevance.abs().max()) > 0
    assert not torch.equal(partial.relevance, whole.relevance)
    along = torch.cosine_similarity(partial.relevance.flatten(), whole.relevance.flatten(), 0)
    assert float(along) > 0.3, float(along)
    again = run()
    assert torch.equal(again.relevance, whole.relevance)


@pytest.mark.parametrize("name", ["exact-shapley", "kernel-shap", "permutation-shapley", "owen-values"])
def test_enumerated_coalitions_give_a_fit_meanwhile(name: str) -> None:
    passes = Passes()
    model, x = Watched(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).eval(), passes), numbers(2, 6)
    method = method_named(name).with_settings(**({} if name == "exact-shapley" else {"samples": 400}))
    memory = memory_for(model, x, 12.5)
    run = lambda: pl.explain(model, x, target=0, method=method, memory=memory)  # noqa: E731
    whole, partial = stopped(run, model, x, passes, 0.6)
    assert torch.allclose(partial.relevance, whole.relevance, atol=1e-5)  # exact on a model that is additive
    assert any("coalitions" in note for note in partial.warnings)
    assert partial.ledger.closed(1e-5)


@pytest.mark.parametrize("name", ["gradient", "smoothgrad", "score-cam", "rise"])
def test_finished_targets_are_kept(name: str) -> None:
    passes = Passes()
    model, x = Watched(convolutional(), passes), numbers(2, 3, 8, 8)
    method = method_named(name).with_settings(**({"samples": 20} if name in ("smoothgrad", "rise") else {}))
    memory = memory_for(model, x, 2.5)
    first = pl.explain(model, x, target=0, method=method, memory=memory)
    run = lambda: pl.explain(model, x, targets=[0, 1, 2], method=method, memory=memory)  # noqa: E731
    whole, partial = stopped(run, model, x, passes, 0.7)
    assert isinstance(partial, list)
    assert 1 <= len(partial) <= 2
    assert torch.equal(partial[0].relevance, first.relevance)
    assert torch.equal(partial[0].relevance, whole[0].relevance)
    assert "partial" not in partial[0].settings
    for one, full in zip(partial, whole, strict=False):
        assert one.settings.get("partial") is True or torch.equal(one.relevance, full.relevance)


def test_a_walk_that_is_done_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.methods import relevance

    real, walks = relevance.explain_trace, []

    def walked(*given: Any, **more: Any) -> Any:
        walks.append(1)
        if len(walks) == 2:
            raise KeyboardInterrupt
        return real(*given, **more)

    model, x = convolutional(), numbers(2, 3, 8, 8)
    whole = pl.explain(model, x, targets=[0, 1])
    monkeypatch.setattr(relevance, "explain_trace", walked)
    with pytest.raises(pl.Interrupted) as caught:
        check_restores(model, x, lambda: pl.explain(model, x, targets=[0, 1]))
    [one] = caught.value.partial
    assert torch.equal(one.relevance, whole[0].relevance)


@pytest.mark.parametrize("name", ["lrp", "crp", "grad-cam", "score-cam", "smooth-grad-cam++"])
def test_parts_of_the_batch_that_are_done_are_kept(name: str) -> None:
    passes = Passes()
    model, x = Watched(convolutional(), passes), numbers(6, 3, 8, 8)
    memory = memory_for(model, x, 2.5)
    for targets in (None, [0, 1]):
        asked = {"target": 0} if targets is None else {"targets": targets}
        run = lambda: pl.explain(model, x, method=name, memory=memory, **asked)  # noqa: B023, E731
        whole, partial = stopped(run, model, x, passes, 0.7)
        pairs = [(whole, partial)] if targets is None else list(zip(whole, partial, strict=False))
        for full, some in pairs:
            size = len(some.output)
            assert size in (2, 4, 6)
            assert some.relevance.shape == some.input.shape == (size, 3, 8, 8)
            assert torch.equal(some.relevance[: size - 2], full.relevance[: size - 2])
            assert len(some.target) == size
            if size < 6:
                assert some.settings["partial"] is True
                assert f"{size} of 6 samples were reached" in some.warnings[1]
            if name == "crp":
                assert len(some.settings["units of each sample"]) == size
    passes.again(1)
    with pytest.raises(KeyboardInterrupt) as plain:
        pl.explain(model, x, target=0, method=name, memory=memory)
    assert not isinstance(plain.value, pl.Interrupted)


def test_after_samples_were_left_out_the_others_go_on() -> None:
    """A round that goes on with the samples that are late only is interrupted before it has an estimate."""
    passes = Passes()
    model, x = Watched(convolutional(), passes), numbers(3, 3, 8, 8)
    x[1] = 0
    method = method_named("rise").with_settings(samples=20, tolerance=0.02, most_samples=400, baseline=0.1)
    memory = memory_for(model, x, 20.5)
    run = lambda: pl.explain(model, x, target=0, method=method, memory=memory)  # noqa: E731
    run()
    passes.again()
    run()
    for limit in range(2, passes.done + 1):
        passes.again(limit)
        with pytest.raises(KeyboardInterrupt):
            run()


def test_maps_of_layers_that_are_done_are_kept() -> None:
    passes = Passes()
    model, x = Watched(convolutional(), passes), numbers(2, 3, 8, 8)
    run = lambda: pl.explain(model, x, target=0, method="score-cam", layer=["model.2", "model.1"])  # noqa: E731
    whole, partial = stopped(run, model, x, passes, 0.95)
    assert list(partial.layers) == ["model.2"]
    assert torch.equal(partial.layers["model.2"], whole.layers["model.2"])
    assert partial.settings["partial"] is True
