"""Which layer a map is made at, what its positions are, and the way from there to the input."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid as pl
from pellucid._api import Request
from pellucid.errors import InputError, ModelError
from pellucid.methods import GradCAM, HiResCAM
from pellucid.methods.positions.choice import Site, Sites, sites_for
from pellucid.methods.positions.resize import resized
from pellucid.targets import resolve_targets
from pellucid.testing import check_restores
from tests.trace.models import Made, convolutional, dense, numbers, recurrent, seeded

pytestmark = pytest.mark.core


def chosen(model: nn.Module, x: Any, target: Any = 0, **wishes: Any) -> Sites:
    with torch.inference_mode(False):
        call = Request(model, **wishes).call(x)
        return sites_for(call, resolve_targets(target, call.batch))


def only(model: nn.Module, x: Any, target: Any = 0, **wishes: Any) -> Site:
    (site,) = chosen(model, x, target, **wishes).sites
    return site


# -- layouts: model, shape of the input, layer, grid, and dimensions of the input that its axes run along

Case = tuple[Callable[[], nn.Module], tuple[int, ...], str, tuple[int, ...], tuple[int | None, ...]]


class Patches(nn.Module):
    """Patches cut by views and one linear layer, without any convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(3 * 4 * 4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, (h // 4) * (w // 4), -1)
        x = self.mix(torch.relu(self.embed(x)))
        return self.head(x.mean(1))


class Tokens(nn.Module):
    """Class token before, registers behind the patches; samples second, as torch's own transformers have them."""

    def __init__(self, samples_first: bool) -> None:
        super().__init__()
        self.samples_first = samples_first
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token, self.registers = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 2, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=samples_first, norm_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x, self.registers.expand(len(x), -1, -1)], 1)
        x = self.encoder(x if self.samples_first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.samples_first else 0))


class Frames(nn.Module):
    """A network for pictures run on all frames of a video at once."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.head = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.relu(self.picture(x.flatten(0, 1)))
        return self.head(maps.unflatten(0, x.shape[:2]).mean((1, 3, 4)))


class Merging(nn.Module):
    """Channels last, neighbours merged into channels, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 4, 2, 2), nn.LayerNorm(16)
        self.reduce, self.last, self.head = nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        return self.head(self.last(self.reduce(self.norm(x))).mean((1, 2)))


class Columns(nn.Module):
    """A vector for every column of a table, and attention among them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.token = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(1, 1, 8))
        self.encoder, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x[..., None] * self.weight], 1)
        return self.head(self.encoder(x).mean(1))


class Sequence(nn.Module):
    """Recurrent features of every step, pooled by a learned weight."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.score, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lstm(x)[0]
        return self.head((x * self.score(x).softmax(1)).sum(1))


class Branches(nn.Module):
    """Convolutions beside each other whose results are joined as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 2, 1)
        self.join, self.head = Made(lambda _, *parts: torch.cat(parts, 1)), nn.Linear(11, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.third(F.avg_pool2d(x, 3, 1, 1))
        return self.head(torch.relu(self.join(self.first(x), self.second(x), pooled)).mean((2, 3)))


class Squeezed(nn.Module):
    """A map scaled by what its own mean says, stretched to the map's size."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.gate, self.last, self.head = (
            nn.Conv2d(3, 6, 3),
            nn.Conv1d(1, 1, 3, padding=1),
            nn.Identity(),
            nn.Linear(6, 3),
        )
        self.scaled = Made(lambda _, x, g: x * g.expand_as(x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.map(x)
        gate = self.gate(x.mean((2, 3))[:, None]).transpose(1, 2)[..., None].sigmoid()
        return self.head(self.last(self.scaled(x, gate)).mean((2, 3)))


def one_dimension() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 6, 3), nn.ReLU(), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)
    )


def convolutional_row() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, (1, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(28, 3))


def three_dimensions() -> nn.Module:
    return nn.Sequential(nn.Conv3d(2, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 3))


def wrapped() -> nn.Module:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 3))
    return Made(lambda self, x: {"logits": self.net(x)}, net=Made(lambda self, x: self.inner(x), inner=inner))


def functional() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.weight))
        return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), self.head)

    model = Made(forward)
    model.weight, model.head = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(3, 4))  # type: ignore
    return model


CASES: dict[str, Case] = {
    "1-D": (one_dimension, (2, 4, 14), "2", (6,), (2,)),
    "a picture of one row": (convolutional_row, (2, 3, 1, 9), "1", (1, 7), (2, 3)),
    "2-D": (convolutional, (2, 3, 8, 8), "3", (3, 3), (2, 3)),
    "3-D": (three_dimensions, (2, 2, 7, 6, 5), "1", (5, 4, 3), (2, 3, 4)),
    "wrapped": (wrapped, (2, 3, 8, 8), "net.inner.1", (6, 6), (2, 3)),
    "functional": (functional, (2, 3, 8, 8), "relu (run 1)", (6, 6), (2, 3)),
    "patches by views": (Patches, (2, 3, 8, 12), "mix", (2, 3), (2, 3)),
    "class token and registers": (lambda: Tokens(True), (2, 3, 8, 12), "encoder", (2, 3), (2, 3)),
    "samples second": (lambda: Tokens(False), (2, 3, 8, 12), "encoder", (2, 3), (2, 3)),
    "frames": (Frames, (2, 4, 3, 9, 9), "picture", (4, 4, 4), (1, 3, 4)),
    "channels last": (Merging, (2, 3, 16, 8), "last", (4, 2), (2, 3)),
    "columns": (Columns, (2, 5), "encoder", (5,), (1,)),
    "recurrent": (Sequence, (2, 7, 4), "lstm", (7,), (1,)),
    "branches": (Branches, (2, 3, 6, 5), "join", (6, 5), (2, 3)),
    "gate": (Squeezed, (2, 3, 8, 7), "scaled", (6, 5), (2, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_layer_chooses_itself_and_its_positions_are_told(case: str) -> None:
    build, shape, name, grid, dims = CASES[case]
    model, x = seeded(build), numbers(*shape)
    site = only(model, x)
    assert site.name == name
    (field,) = site.layout.fields
    assert field.grid == grid
    assert dict(field.inputs) == {"x": dims}
    found = check_restores(model, x, lambda: pl.explain(model, x, target=0, method=GradCAM(relu=False)))
    assert found.settings["layer"] == name
    assert found.layers[name].shape == (shape[0], *grid)
    assert found.relevance.shape == shape
    assert bool(found.relevance.abs().sum() > 0)


@pytest.mark.parametrize("case", [case for case in CASES if case != "functional"])
def test_the_map_follows_the_input(case: str) -> None:
    """HiResCAM of a change at one place of the input is greatest there: positions are where they are said to be."""
    build, shape, name, grid, dims = CASES[case]
    model, x = seeded(build).double(), numbers(*shape).double()
    layout = only(model, x).layout
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda m, a, y: seen.append(y[0] if isinstance(y, tuple) else y)
    )
    place = [size - 1 for size in grid]  # the last position, which is nowhere near the first
    with torch.no_grad():
        model(x)
        changed = x.clone()
        index: list[Any] = [slice(None)] * len(shape)
        for axis, d in enumerate(dims):
            assert d is not None
            index[d] = slice(shape[d] - max(1, shape[d] // (2 * grid[axis])), None)
        changed[tuple(index)] += 5
        model(changed)
    handle.remove()
    before, after = (layout.unfold(value).reshape(2, -1, *grid) for value in seen)
    moved = (after - before).abs().sum(1).reshape(2, -1)
    last = sum(p * s for p, s in zip(place, torch.zeros(grid).stride(), strict=True))
    if case in ("class token and registers", "samples second", "columns", "recurrent"):
        assert bool((moved[:, last] > 0).all())  # attention and recurrence bring it elsewhere too
        if case != "recurrent":
            return
        assert bool((moved[:, :last] == 0).all())
    assert moved.argmax(1).tolist() == [last, last]


@pytest.mark.parametrize("case", CASES)
def test_unfolding_keeps_what_is_there(case: str) -> None:
    """Rows are picked, channels scaled and positions unfolded alike, however the output holds them."""
    build, shape, name, _, _ = CASES[case]
    if case == "functional":
        return
    model, x = seeded(build), numbers(*shape)
    layout = only(model, x).layout
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda m, a, y: seen.append(y[0] if isinstance(y, tuple) else y)
    )
    model(x)
    handle.remove()
    value = seen[0].detach()
    rows = torch.tensor([1, 0, 1])
    assert torch.equal(layout.unfold(layout.rows(value, rows)), layout.unfold(value)[rows])
    flat = layout.unfold(value)
    factors = numbers(2, flat.shape[1])
    scaled = layout.unfold(value * layout.over_channels(factors, value))
    assert torch.allclose(scaled, flat * factors[..., None])
    assert flat.shape[2] == layout.count


# -- which layer


def test_a_class_token_is_read_before_the_attention_that_fills_it() -> None:
    """Behind the last attention patches count for nothing; inside it, queries, keys and values are no layers."""
    pytest.importorskip("timm")
    from timm.models.vision_transformer import VisionTransformer

    def build(**kind: Any) -> nn.Module:
        return VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=3, **kind)

    x = numbers(2, 3, 16, 16)
    site = only(seeded(build), x)
    assert (site.name, site.layout.kept.tolist()) == ("blocks.1.norm1", [1, 2, 3, 4])  # type: ignore[union-attr]
    registers = only(seeded(lambda: build(reg_tokens=2)), x)
    assert (registers.name, registers.layout.kept.tolist()) == ("blocks.1.norm1", [3, 4, 5, 6])  # type: ignore[union-attr]
    pooled = only(seeded(lambda: build(class_token=False, global_pool="avg")), x)
    assert (pooled.name, pooled.layout.kept) == ("blocks", None)
    after = pl.explain(seeded(build), x, target=0, method="grad-cam", layer="blocks.1")
    assert not bool(after.relevance.any())


def test_swin_and_its_layouts() -> None:
    pytest.importorskip("timm")
    from timm.models.swin_transformer import SwinTransformer

    pytest.importorskip("torchvision")
    from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

    x = numbers(1, 3, 64, 64)
    timms = seeded(lambda: SwinTransformer(
        img_size=64, patch_size=4, window_size=4, embed_dim=12, depths=(2, 2), num_heads=(2, 2), num_classes=3
    ))  # fmt: skip
    site = only(timms, x)
    assert (site.name, site.layout.features, site.layout.fields[0].grid) == ("norm", (3,), (8, 8))
    theirs = seeded(lambda: TorchvisionSwin([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=3))
    site = only(theirs, x)
    assert (site.name, site.layout.features, site.layout.fields[0].grid) == ("permute", (1,), (8, 8))
    inner = only(theirs, x, layer="features.3")
    assert inner.layout.features == (3,)


def test_parallel_branches_are_no_layer_where_each_shows_a_part_only() -> None:
    """Convolutions over a text, pooled each on its own: all of it goes through the embedding."""

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 6)
            self.convolutions = nn.ModuleList(nn.Conv2d(1, 4, (size, 6)) for size in (2, 3))
            self.head = nn.Linear(8, 3)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.table(ids)[:, None]
            return self.head(torch.cat([c(x).relu().amax((2, 3)) for c in self.convolutions], 1))

    model = seeded(Text)
    ids = torch.randint(0, 20, (2, 7), generator=torch.Generator().manual_seed(0))
    site = only(model, ids)
    assert site.name == "table"
    assert site.whole
    found = pl.explain(model, ids, target=0, method="grad-cam")
    assert found.relevance.shape == (2, 7)
    assert torch.equal(found.relevance, found.layers["table"])
    one = only(model, ids, layer="convolutions.1")
    assert one.layout.fields[0].grid == (5,)
    assert dict(one.layout.fields[0].inputs) == {"x": (1,)}
    named = pl.explain(model, ids, target=0, method="grad-cam", layer="convolutions.1")
    assert torch.allclose(named.relevance, resized(named.layers["convolutions.1"], [7]), atol=1e-6)


def test_a_way_around_every_layer_is_told() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.head(self.map(x).relu().mean((2, 3)) + x.mean((2, 3)))

    model = seeded(lambda: Made(forward, map=nn.Conv2d(3, 3, 3), head=nn.Linear(3, 2)))
    x = numbers(2, 3, 6, 6)
    site = only(model, x)
    assert (site.name, site.whole) == ("map", False)
    found = pl.explain(model, x, target=0, method="hires-cam")
    assert "leads around the layer 'map', which the map does not show" in found.warnings[0]
    assert found.ledger is None


def test_modules_that_run_several_times() -> None:
    """A ReLU that is used everywhere, and one block run again and again."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.relu, self.head = (
                nn.Conv2d(3, 4, 3),
                nn.Conv2d(4, 4, 3, padding=1),
                nn.ReLU(),
                nn.Linear(4, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.stem(x))
            for _ in range(3):
                x = self.relu(self.block(x))
            return self.head(x.mean((2, 3)))

    model, x = seeded(Shared).double(), numbers(2, 3, 8, 8).double()
    assert only(model, x).name == "relu (run 4)"
    found = pl.explain(model, x, target=[0, 2], method=GradCAM())
    middle = model.stem(x).relu()  # type: ignore[operator]
    for _ in range(2):
        middle = model.block(middle).relu()  # type: ignore[operator]
    last = model.block(middle).relu().detach()  # type: ignore[operator]
    weights = model.head.weight[[0, 2]].detach() / 36  # type: ignore[index, union-attr]
    expected = torch.einsum("nc,nchw->nhw", weights, last).clamp(min=0)
    assert torch.allclose(found.layers["relu (run 4)"], expected, atol=1e-12)
    with pytest.raises(InputError, match="'block' runs 3 times in one forward"):
        pl.explain(model, x, target=0, method="grad-cam", layer="block")


def test_one_layer_for_each_input() -> None:
    """Two pictures through the same layers: each run of them has one input's positions."""

    def forward(self: Any, left: Tensor, right: Tensor) -> Tensor:
        parts = [self.map(side).relu().mean((2, 3)) for side in (left, right)]
        return self.head(torch.cat(parts, 1))

    model = seeded(lambda: Made(forward, map=nn.Conv2d(3, 4, 3), head=nn.Linear(8, 2))).double()
    x = {"left": numbers(2, 3, 8, 8).double(), "right": numbers(2, 3, 6, 9, seed=2).double()}
    sites = chosen(model, x).sites
    assert [site.name for site in sites] == ["map (run 1)", "map (run 2)"]
    found = pl.explain(model, x, target=0, method=HiResCAM())
    for k, (name, value) in enumerate(x.items()):
        assert found.relevance[name].shape == value.shape
        maps = model.map(value).relu().detach()  # type: ignore[operator]
        weights = model.head.weight[0, 4 * k : 4 * k + 4].detach() / maps[0, 0].numel()  # type: ignore[index, union-attr]
        assert torch.allclose(
            found.layers[f"map (run {k + 1})"], torch.einsum("c,nchw->nhw", weights, maps), atol=1e-12
        )


def test_an_input_without_positions_gets_nothing_and_it_is_said() -> None:
    def forward(self: Any, words: Tensor, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(words).mean(1) + x))

    model = seeded(lambda: Made(forward, table=nn.Embedding(10, 6), head=nn.Linear(6, 3)))
    x = {"words": torch.tensor([[1, 2, 3]]), "x": numbers(1, 6)}
    found = pl.explain(model, x, target=0, method="grad-cam")
    assert found.settings["layer"] == "table"
    assert not bool(found.relevance["x"].any())
    assert "'table' has no positions of the input x, whose relevance is left at 0" in found.warnings[0]


def test_a_head_of_zeros_still_has_a_layer() -> None:
    model = seeded(three_dimensions)
    nn.init.zeros_(model[-1].weight)  # type: ignore[index]
    assert only(model, numbers(2, 2, 7, 6, 5)).name == "1"


def test_a_unit_is_explained_by_a_layer_before_or_at_it() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    assert only(model, x, "2:1").name == "2"
    assert only(model, x, "0:1").name == "0"
    with pytest.raises(InputError, match="The explained scalar does not depend on the layer '3'"):
        pl.explain(model, x, target="2:1", method="grad-cam", layer="3")


def test_the_output_of_a_segmentation_is_no_layer() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1)))
    x = numbers(1, 3, 8, 8)
    assert only(model, x, "1@all").name == "1"
    wide = Made(lambda self, x: F.interpolate(self.net(x), scale_factor=2), net=model)
    assert only(wide, x, "1@all").name == "net"
    near = pl.explain(model, x, target="1@4,4", method="grad-cam")
    assert near.settings["layer"] == "0" or near.layers[str(near.settings["layer"])].shape == (1, 8, 8)


# -- errors


def test_models_without_positions_are_refused_with_their_layers() -> None:
    with pytest.raises(
        ModelError, match=r"No layer with positions .* per sample: 0 \(8,\), 1 \(8,\), 2 \(3,\)\. Name a"
    ):
        pl.explain(dense(), numbers(4, 6), target=0, method="grad-cam")
    with pytest.raises(ModelError, match=r"of which more than one counts.*lstm \(5, 8\), head \(3,\)"):
        pl.explain(recurrent(), numbers(2, 5, 6), target=0, method="grad-cam")
    reason = GradCAM().unfit(Request(dense()).call(numbers(4, 6)))
    assert reason is not None
    assert reason.startswith("No layer with positions")
    assert GradCAM().unfit(Request(convolutional()).call(numbers(2, 3, 8, 8))) is None


def test_named_layers_without_positions_are_refused() -> None:
    with pytest.raises(InputError, match=r"The layer '5' gives \(3,\) per sample, in which no positions"):
        pl.explain(convolutional(), numbers(2, 3, 8, 8), target=0, method="grad-cam", layer="5")
    idle = convolutional()
    idle.add_module("7", nn.Conv2d(3, 3, 1))
    idle.forward = lambda x: nn.Sequential(*list(idle.children())[:-1])(x)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="The layer '7' did not run on the explained input"):
        pl.explain(idle, numbers(2, 3, 8, 8), target=0, method="grad-cam", layer="7")


def test_scripted_models_say_that_they_cannot_be_read() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is no longer worked on
        scripted = torch.jit.script(convolutional())
        with pytest.raises(ModelError, match="TorchScript modules give none"):
            pl.explain(scripted, numbers(2, 3, 8, 8), target=0, method="grad-cam")


# -- found once, and kept


def test_the_layer_is_chosen_once_for_a_model() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    runs: list[int] = []
    model.register_forward_pre_hook(lambda m, a: runs.append(len(a[0])))
    pl.explain(model, x, target=0, method="grad-cam")
    first = len(runs)
    pl.explain(model, x, target=1, method="grad-cam")
    assert runs[first:] == [2]  # one forward, of the batch
    pl.explain(model, numbers(2, 3, 10, 10)[..., :8, :8], target=1, method="layer-cam")
    assert runs[first:] == [2, 2]


def test_nothing_before_the_layer_is_recorded() -> None:
    """The graph begins at the layer: no tensor of the first convolution needs a gradient."""
    needs: list[bool] = []
    model = convolutional()
    model[0].register_forward_hook(lambda m, a, y: needs.append(y.requires_grad))  # type: ignore[index]
    x = numbers(2, 3, 8, 8)
    pl.explain(model, x, target=0, method="grad-cam")
    needs.clear()
    pl.explain(model, x, target=0, method="grad-cam")
    assert needs == [False]


@pytest.mark.parametrize("sizes", [(224, 33), (7, 5), (3, 2), (20, 3)])
def test_resizing_is_torchs_and_shares_keep_their_sum(sizes: tuple[int, int]) -> None:
    maps = numbers(2, 7, 5).double()
    kept = resized(maps, sizes, shares=True)
    assert torch.allclose(kept.sum((1, 2)), maps.sum((1, 2)), atol=1e-12)
    plain = resized(maps, sizes)
    assert float(plain.max()) <= float(maps.max()) + 1e-12
    assert torch.allclose(resized(torch.ones(1, 7, 5), sizes), torch.ones(1, *sizes))
    if sizes[0] >= 7 and sizes[1] >= 5:
        expected = F.interpolate(maps[:, None], size=sizes, mode="bilinear")[:, 0]
        assert torch.allclose(plain, expected, atol=1e-12)
