"""Models in the forms in which people have them: shared, wrapped, hooked, compiled, checkpointed, written in place."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import pellucid as pl
from pellucid.testing import check_restores
from tests.trace.models import MODELS, Made, convolutional, dense, explained, numbers, same, seeded, transformer

COMPOSITES = ["auto", "epsilon", "excitation-bp"]
core = pytest.mark.core


def pair(function: Callable[..., Any], plain: Callable[..., Any]) -> tuple[nn.Module, nn.Module]:
    """Two models with the same parts: one in the form under test, one plainly written."""
    model = seeded(lambda: Made(function, first=nn.Linear(6, 6), head=nn.Linear(6, 3)))
    return model, Made(plain, first=model.first, head=model.head).eval()


def shared(self: Any, x: Tensor) -> Tensor:
    return self.head(F.relu(self.first(F.relu(self.first(x)))))


def functional(self: Any, x: Tensor) -> Tensor:
    weight, bias = self.first.weight, self.first.bias
    return F.linear(F.relu(F.linear(F.relu(F.linear(x, weight, bias)), weight, bias)), self.head.weight, self.head.bias)


def called_with_parameters(self: Any, x: Tensor) -> Tensor:
    parameters = dict(self.first.named_parameters())
    for _ in range(2):
        x = torch.func.functional_call(self.first, parameters, (x,)).relu()
    return self.head(x)


def in_place(self: Any, x: Tensor) -> Tensor:
    x = self.first(x).relu_()
    x = self.first(x)
    x.relu_()
    return self.head(x)


def through_views(self: Any, x: Tensor) -> Tensor:
    for _ in range(2):
        x = self.first(x.view(-1, 2, 3).transpose(1, 2).transpose(1, 2).reshape(-1, 6)).unsqueeze(1).relu().squeeze(1)
    return self.head(x)


def checkpointed(self: Any, x: Tensor) -> Tensor:
    for _ in range(2):
        x = checkpoint(lambda h: F.relu(self.first(h)), x, use_reentrant=False)
    return self.head(x)


def given_hooks(self: Any, x: Tensor) -> Tensor:
    for _ in range(2):
        x = self.first(x).relu()
        if x.requires_grad:
            x.register_hook(lambda gradient: gradient * 100)
            x.retain_grad()
    return self.head(x)


SAME_AS_SHARED = [functional, called_with_parameters, in_place, through_views, checkpointed, given_hooks]


@core
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("form", SAME_AS_SHARED, ids=lambda form: form.__name__)
def test_the_form_does_not_matter(form: Callable[..., Any], composite: str) -> None:
    model, plain = pair(form, shared)
    x = numbers(4, 6)
    same(explained(model, x, composite=composite), explained(plain, x, composite=composite))


def write_slice(self: Any, x: Tensor) -> Tensor:
    x = self.first(x)
    x[:, 1:] = x[:, 1:] * 2
    return self.head(x)


def join_slice(self: Any, x: Tensor) -> Tensor:
    x = self.first(x)
    return self.head(torch.cat([x[:, :1], x[:, 1:] * 2], 1))


def write_into_zeros(self: Any, x: Tensor) -> Tensor:
    canvas = torch.zeros(len(x), 6)
    canvas[:, 1:4] = self.first(x)[:, :3]
    return self.head(canvas)


def pad_to_zeros(self: Any, x: Tensor) -> Tensor:
    return self.head(F.pad(self.first(x)[:, :3], (1, 2)))


def write_row_by_row(self: Any, x: Tensor) -> Tensor:
    out = torch.empty(len(x), 6)
    for i in range(6):
        out[:, i] = self.first(x)[:, i].relu()
    return self.head(out)


def all_rows(self: Any, x: Tensor) -> Tensor:
    return self.head(self.first(x).relu())


def scale_view(self: Any, x: Tensor) -> Tensor:
    x = self.first(x)
    x.view(-1, 2, 3)[:, 0].mul_(3).add_(0)
    return self.head(x)


def scale_part(self: Any, x: Tensor) -> Tensor:
    x = self.first(x)
    return self.head(torch.cat([x[:, :3] * 3, x[:, 3:]], 1))


WRITES = [
    (write_slice, join_slice),
    (write_into_zeros, pad_to_zeros),
    (write_row_by_row, all_rows),
    (scale_view, scale_part),
]


@core
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize(("form", "plain"), WRITES, ids=lambda form: form.__name__)
def test_writes_through_views(form: Callable[..., Any], plain: Callable[..., Any], composite: str) -> None:
    model, other = pair(form, plain)
    x = numbers(4, 6)
    same(explained(model, x, composite=composite), explained(other, x, composite=composite))


@core
@pytest.mark.parametrize("composite", COMPOSITES)
def test_the_input_written_in_place(composite: str) -> None:
    def write(self: Any, x: Tensor) -> Tensor:
        x[:, 1:] = x[:, 1:] * 2
        return self.first(x)

    def join(self: Any, x: Tensor) -> Tensor:
        return self.first(torch.cat([x[:, :1], x[:, 1:] * 2], 1))

    model, plain = pair(write, join)
    x = numbers(4, 6)
    same(explained(model, x, composite=composite), explained(plain, x, composite=composite))


@core
@pytest.mark.parametrize("norm", ["weight", "spectral", "old weight", "old spectral"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_reparametrised_weights(norm: str, composite: str) -> None:
    wrap: Callable[[nn.Module], nn.Module] = {
        "weight": parametrizations.weight_norm,
        "spectral": parametrizations.spectral_norm,
        "old weight": nn.utils.weight_norm,
        "old spectral": nn.utils.spectral_norm,
    }[norm]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = seeded(lambda: nn.Sequential(wrap(nn.Linear(6, 8)), nn.ReLU(), wrap(nn.Linear(8, 3))))
    x = numbers(4, 6)
    with torch.no_grad():
        model(x)
    plain = dense()
    with torch.no_grad():
        for index in (0, 2):
            plain[index].weight.copy_(model[index].weight)
            plain[index].bias.copy_(model[index].bias)
    same(explained(model, x, composite=composite), explained(plain, x, composite=composite))


@core
def test_low_rank_adapters_written_by_hand() -> None:
    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.down = nn.Linear(base.in_features, 2, bias=False)
            self.up = nn.Linear(2, base.out_features, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + 0.5 * self.up(self.down(x))

    model, x = seeded(lambda: nn.Sequential(Adapted(nn.Linear(6, 3)))), numbers(4, 6)
    result = explained(model, x, composite="epsilon", dtype="float64")
    adapted = model[0]
    weight = adapted.base.weight + 0.5 * adapted.up.weight @ adapted.down.weight
    torch.testing.assert_close(result.relevance.float(), x * weight[0].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow  # importing peft takes longer than all the rest
def test_low_rank_adapters_of_peft() -> None:
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = seeded(
            lambda: peft.get_peft_model(
                dense(), peft.LoraConfig(target_modules=["0", "2"], r=2, init_lora_weights=False)
            )
        )
        merged = dense()
        with torch.no_grad():
            for index in ("0", "2"):
                layer = model.base_model.model.get_submodule(index)
                merged.get_submodule(index).weight.copy_(layer.weight + layer.get_delta_weight("default"))
        x = numbers(4, 6)
        result = explained(model, x)
    torch.testing.assert_close(result.output, merged(x)[:, 0].detach())


def test_a_lightning_module_with_its_trainer(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning")
        caplog.set_level(logging.ERROR)

        class Lit(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.net = dense()

            def forward(self, x: Tensor) -> Tensor:
                return self.net(x)

        model, x = Lit().eval(), numbers(4, 6)
        expected = explained(model.net, x)
        same(explained(model, x), expected)
        model.trainer = lightning.Trainer(
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
        )
        same(explained(model, x), expected)


@core
@pytest.mark.parametrize("composite", COMPOSITES)
def test_data_parallel(composite: str) -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    same(explained(nn.DataParallel(model), x, composite=composite), explained(model, x, composite=composite))


def no_compiler(*_: object) -> Callable[..., Any]:
    raise AssertionError("something was compiled")


def compiled_whole() -> nn.Module:
    return torch.compile(dense(), backend=no_compiler)


def compiled_part() -> nn.Module:
    model = dense()
    return nn.Sequential(torch.compile(nn.Sequential(model[0], model[1]), backend=no_compiler), model[2])


def compiled_in_place() -> nn.Module:
    model = dense()
    model.compile(backend=no_compiler)
    return model


def compiled_function() -> nn.Module:
    model = dense()
    run = torch.compile(lambda body, x: body(x).relu(), fullgraph=True, backend=no_compiler)
    return Made(lambda self, x: self.head(run(self.body, x)), body=model[0], head=model[2]).eval()


@core
@pytest.mark.parametrize("build", [compiled_whole, compiled_part, compiled_in_place, compiled_function])
def test_compiled_models_need_no_compiler(build: Callable[[], nn.Module]) -> None:
    x, model = numbers(4, 6), build()
    same(explained(model, x), explained(dense(), x))
    if build is not compiled_in_place:  # torch 2.13 compiles such a model's parts only
        with pytest.raises(Exception, match="something was compiled"):
            model(x)


@pytest.mark.slow  # compiles
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("build", [dense, convolutional])
def test_a_model_that_inductor_compiled_and_ran(build: Callable[[], nn.Module]) -> None:
    shape = MODELS[build.__name__][1]
    plain, x = build(), numbers(*shape)
    model = torch.compile(build(), backend="inductor")
    try:
        with torch.no_grad():
            torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-5)
        compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert compiled >= 1
        for composite in COMPOSITES:
            same(explained(model, x, composite=composite), explained(plain, x, composite=composite))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
        with torch.no_grad():
            torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-5)
    finally:
        torch._dynamo.reset()


@core
def test_channels_last() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    for composite in COMPOSITES:
        expected = explained(model, x, composite=composite)
        other = convolutional().to(memory_format=torch.channels_last)
        result = explained(other, x.contiguous(memory_format=torch.channels_last), composite=composite)
        same(result, expected)
        assert result.relevance.is_contiguous(memory_format=torch.channels_last)


@core
def test_views_and_odd_strides_as_input() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    expected = explained(model, x)
    whole = torch.zeros(4, 3, 16, 8)
    part = whole[::2, :, ::2]
    part.copy_(x)
    same(explained(model, part), expected)
    same(explained(model, x.expand(2, 3, 8, 8)), expected)
    one = explained(model, x[:1].expand(2, 3, 8, 8))
    torch.testing.assert_close(one.relevance[0], one.relevance[1])


@core
@pytest.mark.parametrize("kind", ["forward", "pre", "keyword"])
def test_forward_hooks_are_part_of_the_model(kind: str) -> None:
    """A hook may change what the model computes, so it runs, once for each time its module is called."""
    model, x = dense(), numbers(4, 6)
    calls: list[int] = []

    def count(value: Any) -> Any:
        calls.append(1)
        return value

    register: dict[str, Callable[[], Any]] = {
        "forward": lambda: model[1].register_forward_hook(lambda module, args, output: count(output * 2)),
        "pre": lambda: model[1].register_forward_pre_hook(lambda module, args: count((args[0] * 2,))),
        "keyword": lambda: model[1].register_forward_pre_hook(
            lambda module, args, kwargs: count(((args[0] * 2,), kwargs)), with_kwargs=True
        ),
    }
    register[kind]()
    expected = model(x)[:, 0].detach()
    calls.clear()
    torch.testing.assert_close(explained(model, x).output, expected)
    assert len(calls) == 1


@core
@pytest.mark.parametrize("register", ["full_backward_hook", "full_backward_pre_hook", "backward_hook"])
def test_backward_hooks_are_not_run(register: str) -> None:
    """Relevance is no gradient: hooks for gradients are neither called nor in the way."""
    model, x = dense(), numbers(4, 6)
    expected = explained(model, x)
    calls: list[int] = []
    for part in model.modules():
        getattr(part, f"register_{register}")(lambda *_: calls.append(1))
    same(explained(model, x), expected)
    assert calls == []


@core
def test_hooks_of_parameters_are_not_run() -> None:
    model, x = dense(), numbers(4, 6)
    calls: list[int] = []
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: calls.append(1))
    explained(model, x)
    assert calls == []


@core
def test_buffers_written_in_forward_stay_the_users() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        self.seen += len(x)
        self.mean.lerp_(x.detach().mean(0), 0.5)
        return self.layer(x - self.mean)

    model, x = Made(forward, layer=nn.Linear(6, 3)).eval(), numbers(4, 6)
    model.register_buffer("seen", torch.zeros((), dtype=torch.long))
    model.register_buffer("mean", torch.zeros(6))
    first = explained(model, x)
    assert torch.equal(explained(model, x).relevance, first.relevance)
    assert int(model.seen) == 0


PRECISE = [(convolutional, (2, 3, 8, 8)), (transformer, (2, 5, 6)), (dense, (4, 6))]


@core
@pytest.mark.parametrize(("build", "shape"), PRECISE, ids=lambda value: getattr(value, "__name__", None))
@pytest.mark.parametrize("composite", ["auto", "epsilon", "attn-lrp", "epsilon-plus", "excitation-bp"])
@pytest.mark.parametrize("form", ["bfloat16", "float16", "autocast", "autocast inside"])
def test_low_precision(build: Callable[[], nn.Module], shape: tuple[int, ...], composite: str, form: str) -> None:
    model, x = build(), numbers(*shape)
    exact = explained(model, x, composite=composite)
    if form in ("bfloat16", "float16"):
        dtype = getattr(torch, form)
        result = explained(model.to(dtype), x.to(dtype), composite=composite, tolerance=5e-2)
        assert result.relevance.dtype == dtype
    elif form == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = explained(model, x, composite=composite, tolerance=5e-2)
    else:

        def forward(self: Any, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.body(x)

        result = explained(Made(forward, body=model).eval(), x, composite=composite, tolerance=5e-2)
    one, other = result.relevance.float().flatten(), exact.relevance.flatten()
    assert float(F.cosine_similarity(one, other, dim=0)) > 0.98


@core
def test_converted_on_the_way() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    result = check_restores(model, x, lambda: pl.explain(model, x, target=0, dtype="float64"))
    assert result.relevance.dtype == torch.float64
    assert result.ledger is not None
    assert result.ledger.closed(1e-10)
