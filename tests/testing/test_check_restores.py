"""check_restores names whatever a call changed, however the call ended."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid.testing import check_restores
from tests.trace.models import convolutional, numbers

pytestmark = pytest.mark.core

Change = Callable[[Any, Tensor], Any]


def replace_parameter(model: Any, x: Tensor) -> None:
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())


def write_back(model: Any, x: Tensor) -> None:
    """The values are as before, but the version tells that they were written."""
    with torch.no_grad():
        model[0].weight.add_(1).sub_(1)


CHANGES: list[tuple[Change, str]] = [
    (lambda model, x: model[0].weight.data.mul_(2), "values of parameter '0.weight'"),
    (write_back, "version of parameter '0.weight'"),
    (replace_parameter, "identity of parameter '0.weight'"),
    (lambda model, x: model.requires_grad_(False), "requires_grad of parameter '0.weight'"),
    (lambda model, x: model(x).sum().backward(), "gradient of parameter '0.weight'"),
    (lambda model, x: model[0].bias.register_hook(print), "hooks of parameter '0.bias'"),
    (lambda model, x: model.to(memory_format=torch.channels_last), "layout of parameter '0.weight'"),
    (lambda model, x: model[1].running_mean.add_(1), "values of buffer '1.running_mean'"),
    (lambda model, x: setattr(model[1], "running_mean", torch.zeros(4)), "identity of buffer '1.running_mean'"),
    (lambda model, x: model.train(), "training flag of the model"),
    (lambda model, x: model[2].train(), "training flag of module '2'"),
    (lambda model, x: model[2].register_forward_hook(print), "hooks of module '2' (_forward_hooks)"),
    (lambda model, x: model[2].register_full_backward_hook(print), "hooks of module '2' (_backward_hooks)"),
    (lambda model, x: setattr(model[2], "last", x), "identity of attribute 'last' of module '2'"),
    (lambda model, x: setattr(model[2], "inplace", True), "attribute 'inplace' of module '2'"),
    (lambda model, x: setattr(model[2], "forward", print), "attribute 'forward' of module '2'"),
    (lambda model, x: setattr(model[2], "__class__", nn.Tanh), "class of module '2'"),
    (lambda model, x: x.mul_(2), "values of input 'x'"),
    (lambda model, x: x.requires_grad_(), "requires_grad of input 'x'"),
    (lambda model, x: setattr(x, "grad", torch.ones_like(x)), "gradient of input 'x'"),
    (lambda model, x: torch.rand(1), "the random state of torch"),
    (lambda model, x: torch.manual_seed(0), "the random state of torch"),
    (lambda model, x: np.random.rand(), "the random state of numpy"),
    (lambda model, x: random.random(), "the random state of Python"),
    (lambda model, x: torch.set_grad_enabled(False), "the setting: grad mode"),
    (lambda model, x: torch.set_default_dtype(torch.float64), "the setting: default dtype"),
    (lambda model, x: torch.use_deterministic_algorithms(True), "the setting: deterministic algorithms"),
    (lambda model, x: torch._C._set_mkldnn_enabled(False), "the setting: mkldnn"),
    (lambda model, x: torch.set_autocast_enabled("cpu", True), "the setting: autocast on the CPU"),
    (lambda model, x: torch.backends.cuda.enable_flash_sdp(False), "the setting: flash attention"),
    (lambda model, x: setattr(torch.backends.cudnn, "benchmark", True), "the setting: cudnn benchmark"),
]


@pytest.fixture(autouse=True)
def settings_stay() -> Any:
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    torch._C._set_mkldnn_enabled(True)
    torch.set_autocast_enabled("cpu", False)
    torch.backends.cuda.enable_flash_sdp(True)
    torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize(("change", "named"), CHANGES, ids=[named for _, named in CHANGES])
@pytest.mark.parametrize("ending", ["return", "error", "interrupt"])
def test_a_change_is_named(change: Change, named: str, ending: str) -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)

    def call() -> None:
        change(model, x)
        if ending != "return":
            raise {"error": ValueError, "interrupt": KeyboardInterrupt}[ending]

    with pytest.raises(AssertionError) as caught:
        check_restores(model, x, call)
    assert named in str(caught.value)
    assert ("raised" in str(caught.value)) == (ending != "return")


def test_nothing_changed() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    assert check_restores(model, x, lambda: 7) == 7
    assert check_restores(model, {"x": x, "flag": True}, lambda: model(x).shape) == (2, 3)
    assert check_restores(model, (x, x), lambda: None) is None
    with pytest.raises(KeyError, match="own"):
        check_restores(model, x, lambda: {}["own"])


def test_many_changes_are_cut_short() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    with pytest.raises(AssertionError, match=r"; and \d+ more\.$"):
        check_restores(model, x, lambda: model.double().train())
