"""Programs compute what the exported model computes, under its names, and are explained like it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import FileError, InputError, ModelError
from pellucid.models import load_model, register_operator
from pellucid.models.exported import operators
from pellucid.models.exported.archive import read_archive
from tests.models.exported.programs import Images, Tied, Words, export, rewritten, seeded

pytestmark = pytest.mark.core


FILES = Path(__file__).parents[2] / "data" / "exported"


def exported(make: Callable[[], nn.Module], name: str) -> tuple[nn.Module, Path]:
    """A model with the weights of a program that was exported from it (see :mod:`tests.models.exported.programs`)."""
    module, path = make(), FILES / name
    archive = read_archive(path)
    module.load_state_dict(dict(archive.weights))
    return module.eval(), path


@pytest.fixture(scope="module")
def images() -> tuple[nn.Module, Path]:
    return exported(Images, "images.pt2")


@pytest.fixture(scope="module")
def words() -> tuple[nn.Module, Path]:
    return exported(Words, "words.pt2")


def test_an_image_model_is_the_same_under_its_own_names(images) -> None:
    module, path = images
    loaded = load_model(str(path))
    x = torch.randn(3, 3, 12, 12)
    assert torch.allclose(loaded.module(x), module(x), rtol=1e-6, atol=1e-7)
    assert set(loaded.module.state_dict()) == set(module.state_dict())
    assert isinstance(loaded.module.get_submodule("blocks.1.conv1"), nn.Conv2d)
    assert isinstance(loaded.module.drop, nn.Dropout)
    assert not loaded.module.training
    assert loaded.source == str(path)
    loaded.module.load_state_dict(module.state_dict())


def test_a_text_model_is_the_same_each_time(words) -> None:
    module, path = words
    loaded = load_model(f"pt2:{path}").module
    ids = torch.randint(0, 20, (5, 6))
    for _ in range(2):  # what it writes into is made anew
        assert torch.allclose(loaded(ids), module(ids), rtol=1e-5, atol=1e-6)
    assert isinstance(loaded.get_submodule("embed"), nn.Embedding)
    assert isinstance(loaded.get_submodule("lstm"), nn.LSTM)


@pytest.mark.parametrize("which", ["images", "words"])
def test_relevance_is_that_of_the_exported_model(which: str, request: pytest.FixtureRequest) -> None:
    module, path = request.getfixturevalue(which)
    x = torch.randn(2, 3, 12, 12) if which == "images" else torch.randint(0, 20, (2, 6))
    ours = pl.explain(load_model(str(path)), x, target=1)
    theirs = pl.explain(module, x, target=1)
    assert ours.ledger.closed(1e-5)
    assert torch.allclose(ours.relevance, theirs.relevance, atol=1e-5 * float(theirs.relevance.abs().max()))


@pytest.mark.parametrize("method", ["integrated-gradients", "grad-cam"])
def test_methods_run_on_a_program(images, method: str) -> None:
    module, path = images
    x = torch.randn(1, 3, 12, 12)
    settings = {"layer": "blocks.1.relu"} if method == "grad-cam" else {}
    theirs = pl.explain(module, x, target=2, method=method, **settings).relevance
    ours = pl.explain(load_model(str(path)).module, x, target=2, method=method, **settings).relevance
    assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_a_program_moves_to_other_types_copies_and_saves(images, words, tmp_path: Path) -> None:
    for (module, path), x in ((images, torch.randn(2, 3, 12, 12)), (words, torch.randint(0, 20, (2, 6)))):
        loaded = load_model(str(path)).module
        wide = copy.deepcopy(loaded).double()
        given = x.double() if x.is_floating_point() else x
        assert wide(given).dtype == torch.float64
        assert torch.allclose(wide(given).float(), module(x), rtol=1e-4, atol=1e-5)
        torch.save(loaded, tmp_path / "again.pt")
        again = torch.load(tmp_path / "again.pt", weights_only=False)
        assert torch.equal(again(x), loaded(x))


def test_training_a_program_leaves_its_file(images) -> None:
    _, path = images
    before = path.read_bytes()
    loaded = load_model(str(path)).module
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    assert path.read_bytes() == before
    assert loaded(torch.randn(1, 3, 12, 12)).abs().max() == 0


def test_a_fixed_batch_is_said_so() -> None:
    loaded = load_model(str(FILES / "fixed.pt2")).module
    assert loaded(torch.zeros(1, 3, 12, 12)).shape == (1, 4)
    with pytest.raises(
        InputError, match=r"input 'x' of shape \(1, 3, 12, 12\), but got \(4, 3, 12, 12\).*dynamic_shapes"
    ):
        loaded(torch.zeros(4, 3, 12, 12))


def test_tied_weights_stay_tied_and_several_outputs_are_a_tuple() -> None:
    module, path = exported(Tied, "tied.pt2")
    loaded = load_model(str(path)).module
    ids = torch.randint(0, 7, (3, 4))
    a, b = loaded(ids)
    assert torch.equal(a, module(ids)["a"])
    assert torch.equal(b, module(ids)["b"])
    assert len(list(loaded.parameters())) == 1


class Odd(nn.Module):
    """Weights that torch has no layer for: used twice, transposed, and as the kernel of a padded convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.same = nn.Conv1d(4, 4, 3, padding="same")
        self.half_ = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.half_(x @ self.weight.t()) @ self.weight
        return self.same(y[:, :, None]).squeeze(2).roll(1, 1) + x.new_ones(())


def test_weights_without_a_layer_of_their_own(tmp_path: Path) -> None:
    module = seeded(Odd)
    loaded = load_model(str(export(module, torch.randn(2, 4), tmp_path / "odd.pt2"))).module
    x = torch.randn(3, 4)
    assert torch.allclose(loaded(x), module(x), atol=1e-6)
    assert set(loaded.state_dict()) == set(module.state_dict())


def test_a_model_exported_in_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match=r"num_batches_tracked.*model\.eval\(\)"):
        load_model(str(FILES / "train.pt2"))


def test_unknown_operators_are_listed_and_can_be_added(images, tmp_path: Path) -> None:
    module, path = images

    def rename(program: dict) -> None:
        for node in program["graph_module"]["graph"]["nodes"]:
            if "relu" in node["target"]:
                node["target"] = "torch.ops.mine.rectify.default"

    strange = rewritten(path, tmp_path / "strange.pt2", program=rename)
    with pytest.raises(ModelError, match=r"1 operators of this pt2 model.*mine\.rectify\.default \(.*blocks\.0\.relu"):
        load_model(str(strange))
    register_operator("pt2", "torch.ops.mine.rectify.default", torch.relu)
    try:
        loaded = load_model(str(strange)).module
    finally:
        del operators.OPERATORS["torch.ops.mine.rectify.default"]
    x = torch.randn(2, 3, 12, 12)
    assert torch.allclose(loaded(x), module(x), atol=1e-6)


def test_a_missing_file_and_another_name(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="must be a readable file"):
        load_model(str(tmp_path / "none.pt2"))


def test_earlier_results_as_outputs(images) -> None:
    module, path = images
    x = torch.randn(2, 3, 12, 12)
    loaded = load_model(f"{path}?outputs=stem.2,fc").module
    stem, out = loaded(x)
    assert torch.equal(stem, module.stem(x))
    assert torch.equal(out, module(x))
    with pytest.raises(InputError, match=r"has no node 'stem\.9'\. Near ones: stem\.2"):
        load_model(f"{path}?outputs=stem.9")
