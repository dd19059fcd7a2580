"""TorchScript is run only where it is trusted, and then explained like the module that it was made from."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import FileError, InputError
from pellucid.models import load_model

pytestmark = pytest.mark.core


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net()).save(str(tmp_path / "net.pt"))
    return tmp_path / "net.pt"


def test_a_script_is_refused_unless_it_is_trusted(script: Path) -> None:
    with pytest.raises(FileError, match=r"a program of its own.*trust=True \(--trust\).*\.pt2"):
        load_model(str(script))
    with pytest.raises(FileError, match="a program of its own"):
        load_model(f"torchscript:{script}")


def test_a_trusted_script_is_explained_like_its_module(script: Path) -> None:
    loaded = load_model(str(script), trust=True)
    x = torch.randn(2, 3, 8, 8)
    module = net()
    assert torch.allclose(loaded.module(x), module(x), atol=1e-6)
    ours, theirs = pl.explain(loaded, x, target=1), pl.explain(module, x, target=1)
    assert ours.ledger.closed(1e-5)
    assert torch.allclose(ours.relevance, theirs.relevance, atol=1e-5 * float(theirs.relevance.abs().max()))
    gradient = pl.explain(loaded, x, target=1, method="integrated-gradients").relevance
    assert torch.isfinite(gradient).all()


def test_what_is_no_script(script: Path, tmp_path: Path) -> None:
    torch.save(net().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(FileError, match="must be a TorchScript file"):
        load_model(f"torchscript:{tmp_path / 'weights.pt'}", trust=True)
    with pytest.raises(InputError, match="weights alone"):
        load_model(str(tmp_path / "weights.pt"), trust=True)
    with zipfile.ZipFile(script) as old, zipfile.ZipFile(tmp_path / "torn.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"class" if name.endswith(".py") else old.read(name))
    with pytest.raises(FileError, match="could not be loaded"):
        load_model(str(tmp_path / "torn.pt"), trust=True)
