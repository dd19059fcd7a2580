"""Occlusion, feature ablation and feature permutation: against Captum, and written out."""

from __future__ import annotations

from typing import Any

import captum.attr as captum
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from pellucid.methods import FeatureAblation, FeaturePermutation, Occlusion
from tests.methods.watching import Stop, Watched
from tests.trace.models import Made, numbers, seeded


def pictures() -> tuple[nn.Module, Tensor]:
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 3))
    return seeded(lambda: nn.Sequential(*layers)).double(), numbers(2, 3, 8, 8).double()


def rows(count: int = 4) -> tuple[nn.Module, Tensor]:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))).double()
    return model, numbers(count, 5).double()


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 1), ((4, 2), (2, 1)), (8, 8)])
def test_occlusion_equals_captum(window: Any, stride: Any) -> None:
    model, x = pictures()
    along = (window, window) if isinstance(window, int) else window
    by = (stride, stride) if isinstance(stride, int) else stride
    theirs = captum.Occlusion(model).attribute(x, (3, *along), strides=(3, *by), target=1)
    ours = pl.explain(model, x, target=1, method=Occlusion(window=window, stride=stride))
    # Captum gives every place of a window its whole score; here the score is spread, so that sums are kept.
    size = 3 * along[0] * along[1]
    assert torch.allclose(ours.relevance * size, theirs.double(), atol=1e-6)  # Captum answers in single precision


def test_occlusion_takes_another_baseline_and_a_target_per_sample() -> None:
    model, x = pictures()
    theirs = captum.Occlusion(model).attribute(
        x, (3, 4, 4), strides=(3, 4, 4), baselines=0.7, target=torch.tensor([2, 0])
    )
    ours = pl.explain(model, x, target=[2, 0], method=Occlusion(window=4, stride=4, baseline=0.7))
    assert torch.allclose(ours.relevance * 48, theirs.double(), atol=1e-6)


def test_the_last_window_ends_at_the_border() -> None:
    """A stride that does not fit leaves nothing unseen: the last window is moved back, or is smaller."""
    model = seeded(lambda: nn.Linear(7, 2)).double()
    x = numbers(1, 7).double()
    found = pl.explain(model, x, target=0, method=Occlusion(window=3, stride=3))
    assert bool((found.relevance != 0).all())


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2]])
def test_ablation_equals_captum(groups: list[int] | None) -> None:
    model, x = rows()
    mask = torch.arange(5) if groups is None else torch.tensor(groups)
    theirs = captum.FeatureAblation(model).attribute(x, target=2, feature_mask=mask[None])
    ours = pl.explain(model, x, target=2, method=FeatureAblation(features=None if groups is None else mask))
    sizes = torch.bincount(mask)[mask]
    assert torch.allclose(ours.relevance * sizes, theirs, atol=1e-12)
    assert torch.allclose(ours.details["feature scores"], theirs[:, [list(mask).index(k) for k in mask.unique()]])


def test_features_by_name_come_back_by_name() -> None:
    model, x = rows()
    named = {"size": [0, 1], "colour": [2], "rest": [3, 4]}
    found = pl.explain(model, x, target=0, method=FeatureAblation(features=named))
    assert found.settings["feature names"] == ["size", "colour", "rest"]
    without = x.clone()
    without[:, :2] = 0
    assert torch.allclose(found.details["feature scores"][:, 0], (model(x) - model(without))[:, 0])


def test_several_baselines_are_averaged() -> None:
    model, x = rows()
    parts = [pl.explain(model, x, target=0, method=FeatureAblation(baseline=b)).relevance for b in (0.0, 1.0)]
    both = pl.explain(model, x, target=0, method=FeatureAblation(baseline=[0.0, 1.0]))
    assert torch.allclose(both.relevance, (parts[0] + parts[1]) / 2)


def test_ablation_of_a_layer_takes_its_units_away() -> None:
    """What stands there instead is what the layer gives for the baseline of the input."""
    model, x = rows()
    found = pl.explain(model, x, target=0, method=FeatureAblation(), layer="1")
    hidden = torch.tanh(model[0](x)) - torch.tanh(model[0](x * 0))  # type: ignore[index]
    assert torch.allclose(found.layers["1"], hidden * model[2].weight[0], atol=1e-12)  # type: ignore[index]


def test_permutation_over_all_mates_is_the_mean_over_all_of_them() -> None:
    model, x = rows(4)
    found = pl.explain(model, x, target=1, method=FeaturePermutation(permutations=3)).relevance
    with torch.no_grad():
        for i in range(4):
            for k in range(5):
                lent = []
                for j in set(range(4)) - {i}:
                    changed = x[i].clone()
                    changed[k] = x[j, k]
                    lent.append(float(model(x[i])[1] - model(changed)[1]))
                assert float(found[i, k]) == pytest.approx(sum(lent) / 3, abs=1e-12)


def test_captums_permutation_tends_to_the_same() -> None:
    model, x = rows(4)
    torch.manual_seed(0)
    peer = captum.FeaturePermutation(model)
    draws = torch.stack([peer.attribute(x, target=1) for _ in range(3000)])
    ours = pl.explain(model, x, target=1, method=FeaturePermutation(permutations=3)).relevance
    # Captum may lend a sample its own values, which counts as no change: one draw in four of four samples.
    assert torch.allclose(draws.mean(0) * 4 / 3, ours, atol=0.06 * float(ours.abs().max()))


def test_permutation_with_a_background_needs_no_mates() -> None:
    model, x = rows(2)
    others = numbers(6, 5, seed=3).double()
    found = pl.explain(model, x[:1], target=1, method=FeaturePermutation(permutations=6, background=others))
    with torch.no_grad():
        changed = x[:1].expand(6, -1).clone()
        changed[:, 2] = others[:, 2]
        expected = model(x[:1])[0, 1] - model(changed)[:, 1].mean()
    assert float(found.relevance[0, 2]) == pytest.approx(float(expected), abs=1e-12)
    error = found.details["standard error"]
    assert bool((error > 0).all())


def test_permutation_of_a_lone_sample_is_refused_and_check_says_so() -> None:
    model, x = rows(1)
    with pytest.raises(InputError, match=r"one sample only\. Give several, or background="):
        pl.explain(model, x, target=1, method="feature-permutation")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("patches:0", "patches"),
        ("nonsense", "features"),
        (torch.zeros(3, 3, dtype=torch.int64), "shape"),
        ({"a": [7]}, "7"),
    ],
)
def test_features_that_mean_nothing_are_refused(features: Any, message: str) -> None:
    model, x = rows()
    with pytest.raises(InputError, match=message):
        pl.explain(model, x, target=1, method=FeatureAblation(features=features))


def test_ctrl_c_gives_what_was_found() -> None:
    model, x = rows(1)
    whole = pl.explain(model, x, target=1, method=FeatureAblation())
    with pytest.raises(pl.Interrupted) as caught:
        pl.explain(Watched(model, Stop(4)).eval(), x, target=1, method=FeatureAblation(), memory=500)
    part = caught.value.partial
    assert part is not None
    there = part.relevance != 0
    assert bool(there.any())
    assert not bool(there.all())
    assert torch.equal(part.relevance[there], whole.relevance[there])


def test_a_reused_layer_and_functions_do_not_matter() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.b(torch.relu(self.a(h)) + h)

    model = seeded(lambda: Made(forward, a=nn.Linear(5, 5), b=nn.Linear(5, 2))).double()
    x = numbers(2, 5).double()
    theirs = captum.FeatureAblation(model).attribute(x, target=1)
    assert torch.allclose(pl.explain(model, x, target=1, method="feature-ablation").relevance, theirs)
