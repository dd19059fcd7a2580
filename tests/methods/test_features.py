"""Features of every kind: what is taken away together, against scores that are written out group by group."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.cli.settings import method_with
from pellucid.errors import InputError
from pellucid.methods import XRAI, ExactShapley, FeatureAblation, IntegratedGradients, KernelSHAP, Token
from tests.trace.models import Made, numbers, seeded

Function = Callable[[Tensor], Tensor]


def picture() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)))


def series() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)))


def volume() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)))


def flat() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.Tanh(), nn.Linear(8, 3)))


def given(build: Callable[[], nn.Module], *shape: int) -> tuple[nn.Module, Tensor]:
    """A model for inputs of this shape, and such an input."""
    model, x = build().double(), numbers(*shape).double()
    with torch.no_grad():
        model(x)
    return model, x


def grid(*sizes: int, lengths: Sequence[int]) -> Tensor:
    """Blocks of ``sizes`` in an array of ``lengths``, numbered row by row; every size divides its length."""
    blocks = torch.arange(math.prod(n // k for n, k in zip(lengths, sizes, strict=True)))
    found = blocks.reshape([n // k for n, k in zip(lengths, sizes, strict=True)])
    for axis, size in enumerate(sizes):
        found = found.repeat_interleave(size, axis)
    return found


def by_groups(call: Function, x: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """What taking each group away loses, and Shapley values by all subsets, for one sample; both (groups,).

    Args:
        call: gives (n,) numbers for inputs (n, ...).
        x: (...), the sample.
        groups: the number of every value's group; -1 for none.
    """
    count = int(groups.max()) + 1
    subsets = [s for k in range(count + 1) for s in itertools.combinations(range(count), k)]
    shown = torch.stack([sum((groups == k for k in s), groups < 0) for s in subsets])
    worth = dict(zip(subsets, call(x * shown).tolist(), strict=True))
    every = tuple(range(count))
    ablated = torch.tensor([worth[every] - worth[tuple(j for j in every if j != k)] for k in every])
    shapley = torch.zeros(count)
    for s, value in worth.items():
        for k in set(every) - set(s):
            weight = 1 / (count * math.comb(count - 1, len(s)))
            shapley[k] += weight * (worth[tuple(sorted((*s, k)))] - value)
    return ablated.double(), shapley.double()


def check(model: nn.Module, x: Any, features: Any, call: Function, values: Tensor, groups: Tensor) -> None:
    """Both kinds of scores of every sample, and their spread over the values of a group.

    Args:
        model: what is explained, class 1.
        x: its input.
        features: the setting.
        call: class 1 as a function of ``values``.
        values: (N, ...), what is taken away from.
        groups: (N or 1, ...), of the same shape: the groups that the setting should mean.
    """
    groups = groups.expand(values.shape)
    expected = [by_groups(call, value, own) for value, own in zip(values, groups, strict=True)]
    for k, method in ((0, FeatureAblation(features)), (1, ExactShapley(features)), (1, KernelSHAP(features))):
        found = pl.explain(model, x, target=1, method=method)
        relevance = found.relevance["input_ids"] if isinstance(x, dict) else found.relevance
        for i, scores in enumerate(expected):
            ours = found.details["feature scores"][i]
            assert torch.allclose(ours[: len(scores[k])], scores[k], atol=1e-6)
            assert not bool(ours[len(scores[k]) :].any())
            sizes = torch.bincount(groups[i][groups[i] >= 0], minlength=len(scores[k]))
            each = torch.where(groups[i] < 0, 0, (scores[k] / sizes)[groups[i]])
            each = each.sum(-1) if relevance.ndim < values.ndim else each  # ids: one value for each token
            assert torch.allclose(relevance[i], each, atol=1e-6)


def test_the_oracle_knows_a_product() -> None:
    """x y z over {x, y} and {z}: each takes all alone, and half as a fair share; of what is in no group nothing."""
    x = torch.tensor([2.0, 3.0, 5.0, 7.0])
    ablated, shapley = by_groups(lambda v: v.prod(1), x, torch.tensor([0, 0, 1, -1]))
    assert ablated.tolist() == [210, 210]
    assert shapley.tolist() == [105, 105]


KINDS: list[tuple[str, Any, Callable[[], nn.Module], tuple[int, ...], Tensor]] = [
    ("patches", "patches:2x3", picture, (2, 3, 4, 6), grid(2, 3, lengths=(4, 6))),
    ("square patches", "patches:2", picture, (2, 3, 4, 6), grid(2, 2, lengths=(4, 6))),
    ("pixels", "pixels", picture, (2, 3, 2, 3), grid(1, 1, lengths=(2, 3))),
    ("large pixels", "pixels:3x2", picture, (2, 3, 6, 4), grid(3, 2, lengths=(6, 4))),
    ("channels", "channels", picture, (2, 3, 4, 4), torch.arange(3)[:, None, None]),
    ("elements", "elements", picture, (2, 3, 1, 2), grid(1, 1, 1, lengths=(3, 1, 2))),
    ("columns of pictures", "columns:2", picture, (2, 3, 4, 6), torch.arange(6) // 2),
    ("patches of series", "patches:4", series, (2, 2, 12), torch.arange(12) // 4),
    ("channels of series", "channels", series, (2, 2, 12), torch.arange(2)[:, None]),
    ("patches of volumes", "patches:2", volume, (2, 2, 4, 4, 2), grid(2, 2, 2, lengths=(4, 4, 2))),
    ("flat patches of volumes", "patches:4x2x1", volume, (1, 2, 4, 4, 2), grid(4, 2, 1, lengths=(4, 4, 2))),
    ("columns", "columns", flat, (2, 6), torch.arange(6)),
    ("columns by twos", "columns:2", flat, (2, 6), torch.arange(6) // 2),
    ("elements of tables", "elements", flat, (2, 6), torch.arange(6)),
    ("tokens", "tokens", flat, (2, 5, 4), torch.arange(5)[:, None]),
    ("tokens by twos", "Tokens:2 ", flat, (2, 6, 4), torch.arange(6)[:, None] // 2),
    ("numbers", torch.tensor([7, 7, 3, -1, 9]), flat, (2, 5), torch.tensor([1, 1, 0, -1, 2])),
    ("lists of numbers", [4, 4, None, -1, 0], flat, (2, 5), torch.tensor([1, 1, -1, -1, 0])),
    ("numbers by sample", [[0, 0, 1], [0, 1, 1]], flat, (2, 3), torch.tensor([[0, 0, 1], [0, 1, 1]])),
    ("numbers that broadcast", [[[1], [0]]], picture, (2, 3, 2, 4), torch.tensor([[1], [0]])),
    ("named columns", {"a": [0, -1], "b": 2}, flat, (2, 5), torch.tensor([0, -1, 1, -1, 0])),
    ("named channels", {"red": [0], "rest": (1, 2)}, picture, (2, 3, 2, 2), torch.tensor([0, 1, 1])[:, None, None]),
    ("masks", {"a": torch.arange(5) > 2, "b": torch.arange(5) < 1}, flat, (2, 5), torch.tensor([1, -1, -1, 0, 0])),
    ("masks as lists", {"a": [True, False, True], "b": [False, True, False]}, flat, (2, 3), torch.tensor([0, 1, 0])),
    ("masks of numpy", {"a": np.array([[True, False], [False, True]])}, picture, (2, 3, 2, 2), torch.eye(2).long() - 1),
    ("by input", {"x": "columns:3"}, flat, (2, 6), torch.arange(6) // 3),
    ("numbers by input", {"x": [0, 0, 1]}, flat, (2, 3), torch.tensor([0, 0, 1])),
]


@pytest.mark.parametrize(
    ("features", "build", "shape", "groups"), [case[1:] for case in KINDS], ids=[case[0] for case in KINDS]
)
def test_every_kind(features: Any, build: Callable[[], nn.Module], shape: tuple[int, ...], groups: Tensor) -> None:
    model, x = given(build, *shape)
    fitted = groups.expand(len(x), *x.shape[1:]) if groups.ndim == x.ndim else groups.expand(x.shape[1:])[None]
    check(model, x, features, lambda v: model(v)[:, 1].detach(), x, fitted)


def quarters(channels: int, *places: int) -> Tensor:
    """Pictures of four flat colours that meet at ``places``, one for each."""
    table = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0, 1], [0.7, 1, 0]]).double()[:, :channels]
    row, column = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    return torch.stack([table[2 * (row >= k) + (column >= k)].movedim(-1, 0) for k in places])


@pytest.mark.parametrize("channels", [1, 3])
def test_superpixels_are_found_in_every_picture(channels: int) -> None:
    build = picture if channels == 3 else flat
    model, x = given(build, 2, channels, 12, 12)[0], quarters(channels, 6, 5)
    maps = pl.explain(model, x, target=1, method=FeatureAblation("superpixels:4")).details["feature map"]
    assert maps.shape == (2, 1, 12, 12)
    for one, own in zip(x, maps, strict=True):
        assert own.unique().tolist() == [0, 1, 2, 3]
        assert all(one[:, own[0] == k].unique(dim=1).shape[1] == 1 for k in range(4))  # of one colour each
    alone = pl.explain(model, x[1:], target=1, method=FeatureAblation("superpixels:4")).details["feature map"]
    assert torch.equal(alone, maps[1:])
    check(model, x, "superpixels:4", lambda v: model(v)[:, 1].detach(), x, maps.long())


@pytest.mark.parametrize(("build", "shape"), [(series, (2, 2, 24)), (volume, (2, 2, 6, 4, 8))])
def test_superpixels_of_series_and_volumes(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """Two flat halves, cut off the middle, come apart where they meet."""
    model, _ = given(build, *shape)
    cut = shape[-1] // 2 + 1
    x = torch.where(torch.arange(shape[-1]) < cut, 1.0, 0.25).double().expand(shape).contiguous()
    maps = pl.explain(model, x, target=1, method=FeatureAblation("superpixels:2")).details["feature map"].long()
    assert maps.shape == (2, 1, *shape[2:])
    assert not set(maps[..., :cut].unique().tolist()) & set(maps[..., cut:].unique().tolist())
    check(model, x, "superpixels:2", lambda v: model(v)[:, 1].detach(), x, maps)


def test_superpixels_of_what_is_no_picture_are_refused() -> None:
    model, x = given(flat, 2, 6)
    with pytest.raises(InputError, match=r"Superpixels are found in series, pictures or volumes \(N, C, \.\.\.\)"):
        pl.explain(model, x, target=1, method=FeatureAblation("superpixels"))


# Words. A tokenizer of three kinds of pieces, and a model that reads token ids.

TEXTS = ["unreadable cats, really", "cats can read"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##read", "##able", "cat", "##s", ",", "real", "##ly"]
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    vocabulary = {piece: k for k, piece in enumerate([*pieces, "can", "read"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, mask_token="[MASK]", **names)


def reader() -> nn.Module:
    def forward(self: Any, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        vectors = self.table(input_ids)
        return self.head(vectors if segments is None else vectors + self.segment(segments))

    def build() -> nn.Module:
        head = nn.Sequential(nn.Flatten(), nn.Linear(10 * 4, 6), nn.Tanh(), nn.Linear(6, 3))
        return Made(forward, table=nn.Embedding(15, 4), segment=nn.Embedding(2, 4), head=head)

    return seeded(build).double()


@pytest.fixture
def texts(tokenizer: Any) -> tuple[Any, Tensor, Tensor]:
    """Encoding, token ids, and the word of each, as the tokenizer itself says when it reads the texts."""
    encoding = tokenizer(TEXTS, padding=True, return_tensors="pt")
    rows = [[-1 if word is None else word for word in encoding.word_ids(i)] for i in range(len(TEXTS))]
    assert rows == [[-1, 0, 0, 0, 1, 1, 2, 3, 3, -1], [-1, 0, 0, 1, 2, -1, -1, -1, -1, -1]]
    return encoding, encoding.input_ids, torch.tensor(rows)


def test_words_are_those_of_the_tokenizer(tokenizer: Any, texts: tuple[Any, Tensor, Tensor]) -> None:
    encoding, ids, words = texts
    model: Any = reader()
    vectors = model.table(ids).detach()

    def call(v: Tensor) -> Tensor:
        return model.head(v)[:, 1].detach()  # type: ignore[no-any-return]

    loaded = pl.LoadedModel(model, tokenizer=tokenizer)
    for x in (ids, {"input_ids": ids}):
        check(loaded, x, "words", call, vectors, words[..., None])
    check(loaded, ids, "words:2", call, vectors, torch.where(words < 0, -1, words // 2)[..., None])
    check(model, ids, [encoding.word_ids(i) for i in range(2)], call, vectors, words[..., None])  # no tokenizer needed


def test_segments_have_the_words_of_the_text(tokenizer: Any, texts: tuple[Any, Tensor, Tensor]) -> None:
    """A word goes as a whole: what it is looked up as, and what its places are."""
    _, ids, words = texts
    segments = (torch.arange(10) > 4).long().expand(2, -1)
    model: Any = reader()
    x = {"input_ids": ids, "segments": segments}
    loaded = pl.LoadedModel(model, tokenizer=tokenizer)
    vectors = torch.stack([model.table(ids), model.segment(segments)], -1).detach()
    groups = words[..., None, None].expand(vectors.shape)
    found = pl.explain(loaded, x, target=1, method=ExactShapley("words"))
    for i in range(2):
        _, shapley = by_groups(lambda v: model.head(v.sum(-1))[:, 1].detach(), vectors[i], groups[i])
        assert torch.allclose(found.details["feature scores"][i, : len(shapley)], shapley, atol=1e-6)


def test_words_that_nothing_tells_are_refused(tokenizer: Any, texts: tuple[Any, Tensor, Tensor]) -> None:
    _, ids, _ = texts
    model = reader()
    told = (
        r"nothing tells which tokens of the look-up of 'x' make a word\. Load the model with its tokenizer .*word_ids"
    )
    with pytest.raises(InputError, match=told):
        pl.explain(model, ids, target=1, method=FeatureAblation("words"))
    loaded = pl.LoadedModel(given(flat, 2, 10, 4)[0], tokenizer=tokenizer)
    with pytest.raises(InputError, match="nothing tells which tokens of the input 'x' make a word"):
        pl.explain(loaded, numbers(2, 10, 4).double(), target=1, method=FeatureAblation("words"))


def test_words_at_a_layer(tokenizer: Any, texts: tuple[Any, Tensor, Tensor]) -> None:
    _, ids, words = texts
    model: Any = reader()
    loaded = pl.LoadedModel(model, tokenizer=tokenizer)
    method = FeatureAblation({"table": "words"}, baseline=Token(0))
    found = pl.explain(loaded, ids, target=1, method=method, layer="table").layers["table"]
    vectors = model.table(ids).detach()
    without = torch.where((words[0] == 1)[:, None], model.table.weight[0], vectors[0])
    lost = (model.head(vectors[:1]) - model.head(without[None]))[0, 1].detach()
    assert torch.allclose(found[0, 4:6], (lost / 8).expand(2, 4), atol=1e-9)


def written(kind: str) -> tuple[Any, list[str]]:
    """A tokenizer that marks words otherwise, and how it cuts a text."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    models, before, after = tokenizers.models, tokenizers.pre_tokenizers, tokenizers.decoders
    if kind == "bytes":
        pieces = ["play", "ing", "Ġand", "Ġre", "ading", ",", "Ġ", "Ã", "¯", "</s>"]
        made, decoder = models.WordLevel({piece: k for k, piece in enumerate(pieces)}), after.ByteLevel()
        cut = ["play", "ing", ",", "Ġre", "ading", "</s>", "Ġand", "Ġ", "Ã", "¯"]
    elif kind == "pieces":
        pieces = ["▁", "▁play", "ing", "▁and", "▁re", "ading", ",", "1", "</s>"]
        made, decoder = models.WordLevel({piece: k for k, piece in enumerate(pieces)}), after.Metaspace()
        cut = ["▁play", "ing", ",", "▁re", "ading", "</s>", "▁and", "▁", "1", "ing"]
    else:
        pieces = ["play", "ing</w>", "re", "ading</w>", ",</w>", "and</w>", "1</w>", "</s>", "s"]
        made, decoder = models.WordLevel({piece: k for k, piece in enumerate(pieces)}), after.BPEDecoder("</w>")
        cut = ["play", "ing</w>", ",</w>", "re", "ading</w>", "</s>", "and</w>", "s", "re", "1</w>"]
    whole = tokenizers.Tokenizer(made)
    whole.pre_tokenizer, whole.decoder = before.WhitespaceSplit(), decoder
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, eos_token="</s>"), cut


@pytest.mark.parametrize("kind", ["bytes", "pieces", "ends"])
def test_words_of_other_tokenizers(kind: str) -> None:
    """Marks before a word (of bytes or of characters), or behind it."""
    tokenizer, cut = written(kind)
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(cut)])
    loaded = pl.LoadedModel(reader(), tokenizer=tokenizer)
    maps = pl.explain(loaded, ids, target=1, method=FeatureAblation("words")).details["feature map"]
    assert maps[0].tolist() == [0, 0, 1, 2, 2, -1, 3, 4, 4, 4]


# Several inputs, layers, the command line.


def summed() -> nn.Module:
    def forward(self: Any, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.tanh(self.a(a) + self.b(b)))

    return seeded(lambda: Made(forward, a=nn.Linear(3, 5), b=nn.Linear(4, 5), head=nn.Linear(5, 3))).double()


SEVERAL = [
    ({"p": {"a": [0, 1], "b": [2]}, "q": {"b": [0, 3]}}, [0, 0, -1, 1, -1, 0, 1]),
    ({"a": [0, 0, 1], "b": [1, 1, 2, None]}, [0, 0, 1, 1, 1, 2, -1]),
    (["columns:2", [5, 5, 6, 6]], None),
    ({"a": "columns:3"}, [0, 0, 0, 1, 2, 3, 4]),
    ([[0, 0, 1], [2, 2, 2, 2]], [0, 0, 1, 2, 2, 2, 2]),
]


@pytest.mark.parametrize(("features", "groups"), SEVERAL)
def test_features_of_several_inputs(features: Any, groups: list[int] | None) -> None:
    model = summed()
    x = {"a": numbers(2, 3).double(), "b": numbers(2, 4, seed=2).double()}
    both = torch.cat([x["a"], x["b"]], 1)
    found = pl.explain(model, x, target=1, method=ExactShapley(features))
    maps = torch.cat([found.details["feature map of a"], found.details["feature map of b"]], 1)[0]
    expected = maps.long() if groups is None else torch.tensor(groups)
    for i in range(2):
        _, shapley = by_groups(lambda v: model(v[:, :3], v[:, 3:])[:, 1].detach(), both[i], expected)
        sizes = torch.bincount(expected[expected >= 0])
        each = torch.where(expected < 0, 0, (shapley / sizes)[expected])
        ours = torch.cat([found.relevance["a"][i], found.relevance["b"][i]])
        assert torch.allclose(ours, each, atol=1e-6)
    if groups is None:
        assert (maps[:3].unique().numel(), maps[3:].unique().numel()) == (2, 2)
        assert not set(maps[:3].tolist()) & set(maps[3:].tolist())


def test_named_groups_at_a_layer() -> None:
    model, x = given(flat, 2, 6)
    layers: Any = model
    method = FeatureAblation({"x": "columns", "1": {"first": [0, 1, 2], "last": [-1]}})
    found = pl.explain(model, x, target=1, method=method, layer="1")
    inner, empty = (layers[1](value).detach() for value in (x, x * 0))
    for i in range(2):
        without = inner[i].clone()
        without[:3] = empty[i, :3]
        lost = (layers[2:](inner[i]) - layers[2:](without))[1].detach()
        assert torch.allclose(found.layers["1"][i, :3], lost / 3, atol=1e-9)
        assert not bool(found.layers["1"][i, 3:7].any())
    assert torch.allclose(found.relevance, pl.explain(model, x, target=1, method=FeatureAblation()).relevance)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("patches:2x2x2", r"patches:2x2x2' does not fit the input 'x' of shape \(2, 3, 4, 4\), which has 2 dimensions"),
        ("patches", "Give one size for all, or one for each"),
        ("words:0", "No features are called 'words:0'"),
        ({"y": "pixels"}, "features= names 'y', which is no input or layer. The inputs are: x"),
        ({"a": [0], "b": [0, 1]}, "The group 'b' of features= overlaps another"),
        ({"a": [3]}, r"The group 'a' of features= has places \[3\] outside the input 'x' of shape \(2, 3, 4, 4\)"),
        ({"a": "red"}, "names 'a', which is no input or layer.* A named group is a boolean mask, or a list of places"),
        ({"a": "red", "b": [0]}, "The group 'a' of features= must be a boolean mask or places along the second dimens"),
        ({"a": [0.5]}, "must be a boolean mask or places along the second dimension, got \\[0.5\\]"),
        ({"a": torch.ones(3, 3, dtype=torch.bool)}, r"must broadcast to a sample of shape \(3, 4, 4\)"),
        ([[0, 1], [0]], "The lists of numbers in features= for the input 'x' must be equally long"),
        ([[[None, None, -1, None]]], "leaves nothing to take away at input 'x'"),
        (["pixels", "pixels"], "lists 2 settings for 1 explained inputs"),
    ],
)
def test_what_means_nothing_is_refused(features: Any, message: str) -> None:
    model, x = given(picture, 2, 3, 4, 4)
    with pytest.raises(InputError, match=message):
        pl.explain(model, x, target=1, method=FeatureAblation(features))


@pytest.mark.parametrize(
    ("words", "features"),
    [
        ('{"size": [0, 1], "rest": [2, 3, -1]}', {"size": [0, 1], "rest": [2, 3, 4]}),
        ('{"a": [true, false, true, false, false]}', {"a": [0, 2]}),
        ('{"x": "columns:2"}', "columns:2"),
        ("[0, 0, 1, 1, null]", torch.tensor([0, 0, 1, 1, -1])),
        ("[[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]]", torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]])),
        ("columns:3", "columns:3"),
    ],
)
def test_features_in_words_of_the_command_line(words: str, features: Any) -> None:
    model, x = given(flat, 2, 5)
    found = pl.explain(model, x, target=1, method=method_with("kernel-shap", [f"features={words}"]))
    assert torch.equal(found.relevance, pl.explain(model, x, target=1, method=KernelSHAP(features)).relevance)
    assert bool(found.relevance.any())


def test_braces_that_are_no_json_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"--set features: expected a name, a number, Token\(id\) or JSON, got '\{a: 1\}'"
    ):
        method_with("kernel-shap", ["features={a: 1}"])


# XRAI takes the same forms as regions.


def ranked(gradients: Tensor, regions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Means and turns as the paper's algorithm gives them, the best region first; what is in none comes last."""
    taken = torch.zeros(gradients.shape, dtype=torch.bool)
    means, turns = torch.zeros_like(gradients), torch.zeros(gradients.shape, dtype=torch.int32)
    for turn in itertools.count(1):
        left = [region & ~taken for region in regions if bool((region & ~taken).any())] or [~taken]
        best = max(left, key=lambda part: float(gradients[part].mean()))
        if not bool(best.any()):
            return means, turns
        means[best], turns[best] = gradients[best].mean(), turn
        taken |= best
    raise AssertionError


REGIONS: list[tuple[Any, Callable[[], nn.Module], tuple[int, ...], list[Tensor]]] = [
    ("patches:2", picture, (2, 3, 4, 6), [grid(2, 2, lengths=(4, 6)).expand(3, 4, 6)]),
    (
        ["patches:2x3", "channels"],
        picture,
        (2, 3, 4, 6),
        [grid(2, 3, lengths=(4, 6)).expand(3, 4, 6), torch.arange(3)[:, None, None].expand(3, 4, 6)],
    ),
    (["columns", "columns:3"], flat, (2, 6), [torch.arange(6), torch.arange(6) // 3]),
    ({"a": [0, 1, 4], "b": [3]}, flat, (2, 6), [torch.tensor([0, 0, -1, 1, 0, -1])]),
    ([0, 0, 1, 1, 1, None], flat, (2, 6), [torch.tensor([0, 0, 1, 1, 1, -1])]),
    ([[0, 0, 1, 1, 1, 2], "columns"], flat, (2, 6), [torch.tensor([0, 0, 1, 1, 1, 2]), torch.arange(6)]),
]


@pytest.mark.parametrize(("regions", "build", "shape", "maps"), REGIONS)
def test_regions_of_xrai(
    regions: Any, build: Callable[[], nn.Module], shape: tuple[int, ...], maps: list[Tensor]
) -> None:
    model, x = given(build, *shape)
    found = pl.explain(model, x, target=1, method=XRAI(regions, steps=20))
    gradients = pl.explain(model, x, target=1, method=IntegratedGradients(steps=20, baseline=["min", "max"])).relevance
    for i in range(len(x)):
        members = [one == k for one in maps for k in one.unique() if k >= 0]
        means, turns = ranked(gradients[i], members)
        assert torch.allclose(found.relevance[i], means, atol=1e-6)
        assert torch.equal(found.details["region rank"][i].expand(turns.shape), turns)


def test_words_as_regions(tokenizer: Any, texts: tuple[Any, Tensor, Tensor]) -> None:
    _, ids, words = texts
    loaded = pl.LoadedModel(reader(), tokenizer=tokenizer)
    found = pl.explain(loaded, ids, target=1, method=XRAI("words", steps=20))
    gradients = pl.explain(loaded, ids, target=1, method=IntegratedGradients(steps=20, baseline=["min", "max"]))
    for i in range(2):
        means, turns = ranked(gradients.relevance[i], [words[i] == k for k in words[i].unique() if k >= 0])
        assert torch.allclose(found.relevance[i], means, atol=1e-6)
        assert torch.equal(found.details["region rank"][i], turns)
