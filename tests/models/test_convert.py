"""What is written computes what the model computes, needs nothing of this package, and never half replaces a file."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import FileError, InputError, ModelError
from pellucid.models import Preprocessing, load_model
from pellucid.models.convert import code
from pellucid.models.graph.module import Function, GraphModule, Step
from tests.models.exported.programs import Words, seeded
from tests.models.mxnet.fixtures import io, symbol

pytestmark = pytest.mark.core

LOAD = """
import sys
import torch
assert not any(name.startswith("pellucid") for name in sys.modules)
sys.path.insert(0, sys.argv[1])
import net
x = torch.load("x.pt")
torch.save((net.load()(*x), sorted(net.Model().state_dict())), "y.pt")
assert not any(name.startswith("pellucid") for name in sys.modules)
"""


def run_alone(folder: Path, *x: Tensor) -> tuple[Tensor, list[str]]:
    """What the written code gives in a process of its own, and the names of its weights."""
    torch.save(x, folder / "x.pt")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", LOAD, str(folder)], cwd=folder, check=True, env=environment, timeout=120)
    result: tuple[Tensor, list[str]] = torch.load(folder / "y.pt")
    return result


@pytest.mark.parametrize("name", ["symbol_cnn", "text_lstm_bi", "bert_tiny", "seg_tiny"])
def test_code_of_an_mxnet_model(name: str, tmp_path: Path) -> None:
    loaded = load_model(str(symbol(name)))
    x = {key: torch.from_numpy(io(name)[key]) for key in loaded.module.input_names}
    files = pl.convert(loaded, tmp_path / "net.safetensors", x)
    assert files == (tmp_path / "net.safetensors", tmp_path / "net.py")
    text = (tmp_path / "net.py").read_text()
    assert "pellucid." not in text
    compile(text, "net.py", "exec")
    if name == "symbol_cnn":
        found, weights = run_alone(tmp_path, *x.values())
        assert torch.allclose(found, loaded.module(*x.values()), rtol=1e-5, atol=1e-6)
        assert set(weights) == set(loaded.module.state_dict())
        assert "nn.Conv2d(" in text


def test_code_without_an_example_is_written_unchecked(tmp_path: Path) -> None:
    pl.convert(str(symbol("digits_mlp")), tmp_path / "net.safetensors")
    x = torch.from_numpy(io("digits_mlp")["data"])
    found = runpy.run_path(str(tmp_path / "net.py"))["load"]()(x)
    assert torch.allclose(found, load_model(str(symbol("digits_mlp"))).module(x), rtol=1e-5, atol=1e-6)


def test_a_module_becomes_a_program_and_code(tmp_path: Path) -> None:
    module = seeded(Words)
    ids = torch.randint(0, 20, (1, 6))
    module.train()
    (program,) = pl.convert(module, tmp_path / "net.pt2", ids)
    assert all(part.training for part in module.modules())
    module.eval()
    more = torch.randint(0, 20, (7, 6))  # the batch is free
    assert torch.allclose(load_model(str(program)).module(more), module(more), atol=1e-6)
    pl.convert(str(program), tmp_path / "net.safetensors")
    found = runpy.run_path(str(tmp_path / "net.py"))["load"]()(more)
    assert torch.allclose(found, module(more), atol=1e-6)


def test_an_mxnet_model_becomes_a_program_under_its_names(tmp_path: Path) -> None:
    loaded = load_model(str(symbol("digits_cnn")))
    x = torch.from_numpy(io("digits_cnn")["data"])
    pl.convert(loaded, tmp_path / "net.pt2", x)
    again = load_model(str(tmp_path / "net.pt2")).module
    assert again.input_names == loaded.module.input_names
    assert set(again.state_dict()) == set(loaded.module.state_dict())
    theirs = pl.explain(loaded, x, target=1).relevance
    assert torch.allclose(pl.explain(again, x, target=1).relevance, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_images_need_no_example(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    pl.convert(pl.LoadedModel(net, preprocessing=Preprocessing(crop=8)), tmp_path / "net.pt2")
    assert load_model(str(tmp_path / "net.pt2")).module(torch.zeros(3, 3, 8, 8)).shape == (3, 2)


class Drawn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_written(tmp_path: Path) -> None:
    x = torch.ones(2, 3)
    with pytest.raises(ModelError, match="differs from the model by"):
        pl.convert(Drawn(), tmp_path / "net.pt2", x)
    with pytest.raises(ModelError, match=r"torch\.export cannot export this Decides"):
        pl.convert(Decides(), tmp_path / "net.pt2", x)
    with pytest.raises(InputError, match="give an example of its input"):
        pl.convert(nn.Linear(3, 2), tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"must end in \.pt2"):
        pl.convert(nn.Linear(3, 2), tmp_path / "net.onnx", x)
    with pytest.raises(InputError, match="got int"):
        pl.convert(3, tmp_path / "net.pt2", x)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_files_are_replaced_only_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(str(symbol("digits_mlp")))
    (tmp_path / "net.py").write_text("mine = 1\n")
    with pytest.raises(FileError, match=r"net\.py' is there already; pass force=True \(--force\)"):
        pl.convert(model, tmp_path / "net.safetensors")
    assert (tmp_path / "net.py").read_text() == "mine = 1\n"
    assert not (tmp_path / "net.safetensors").exists()
    with monkeypatch.context() as patched:
        patched.setattr(code.Code, "text", lambda self, title: "1 / 0")
        with pytest.raises(ZeroDivisionError):
            pl.convert(model, tmp_path / "net.safetensors", force=True)
    assert (tmp_path / "net.py").read_text() == "mine = 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]
    pl.convert(model, tmp_path / "net.safetensors", force=True)
    assert "class Model" in (tmp_path / "net.py").read_text()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    model = load_model(str(symbol("digits_mlp")))
    with pytest.raises(FileError, match=r"cannot write .*missing"):
        pl.convert(model, tmp_path / "missing" / "net.safetensors")
    (tmp_path / "folder.pt2").mkdir()
    with pytest.raises(FileError, match="is a folder"):
        pl.convert(model, tmp_path / "folder.pt2", torch.zeros(1, 64), force=True)
    with pytest.raises(FileError, match="cannot write"):
        pl.convert(model, Path("/proc") / "net.safetensors")


def test_a_wrong_copy_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(str(symbol("digits_mlp")))
    x = torch.from_numpy(io("digits_mlp")["data"])
    written = code.Code(model.module).text("").replace("nn.ReLU", "nn.Tanh")
    assert "nn.Tanh" in written
    monkeypatch.setattr(code.Code, "text", lambda self, title: written)
    with pytest.raises(ModelError, match="differs from the model by"):
        pl.convert(model, tmp_path / "net.safetensors", x)


@pytest.mark.parametrize(
    "name",
    ['x"""\nraise SystemExit("run")\n"""', "x\\", "class", "1", "\u00b2", "self", "torch", "x\n    raise KeyError"],
)
def test_names_in_a_file_are_no_code(name: str, tmp_path: Path) -> None:
    """Names in model files may be anything; in the code they are names and words alone."""
    graph = json.loads(symbol("digits_mlp").read_text())
    for node in graph["nodes"]:
        if node["op"] != "null" or node["name"] == "data":
            node["name"] = name + node["op"] * (node["op"] != "null")
    (tmp_path / "odd-symbol.json").write_text(json.dumps(graph))
    (tmp_path / "odd-0000.params").write_bytes(symbol("digits_mlp").with_name("digits_mlp-0000.params").read_bytes())
    x = torch.from_numpy(io("digits_mlp")["data"])
    pl.convert(str(tmp_path / "odd-symbol.json"), tmp_path / "net.safetensors", x)
    found = runpy.run_path(str(tmp_path / "net.py"))["load"]()(x)
    assert torch.allclose(found, load_model(str(symbol("digits_mlp"))).module(x), rtol=1e-5, atol=1e-6)


def test_settings_in_a_file_are_no_code(tmp_path: Path) -> None:
    hostile = Function(torch.relu, {"x, y=print('run'), z": 1})
    net = GraphModule({"a": hostile}, [Step("a", (0,), (1,))], inputs=[("x", 0)], outputs=[("y", 1)])
    with pytest.raises(ModelError, match="cannot be written as code"):
        pl.convert(net, tmp_path / "net.safetensors")
