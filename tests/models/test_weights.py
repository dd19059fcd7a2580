from __future__ import annotations

import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

from pellucid.errors import FileError
from pellucid.models.weights import classes_in, load_weights, read_state_dict, without_prefix

pytestmark = pytest.mark.core


class Runs:
    """An object whose unpickling runs code: here it makes a folder, so that a test can see whether it ran."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_safetensors_whatever_the_extension(tmp_path, name: str) -> None:
    state = net().state_dict()
    safetensors.torch.save_file(state, tmp_path / name)
    assert same(read_state_dict(tmp_path / name), state)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "model_state_dict"])
def test_checkpoints_bare_and_wrapped(tmp_path, new: bool, wrap: str | None) -> None:
    state = net().state_dict()
    content = state if wrap is None else {"epoch": 3, wrap: state, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert same(read_state_dict(tmp_path / "a.pt"), dict(state))


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, new: bool) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": net().state_dict(), "x": Runs(str(mark))}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(FileError, match=r"evil\.pt is a pickle that would run code .*trust=True"):
        read_state_dict(path)
    assert not mark.exists()
    assert same(read_state_dict(path, trust=True), dict(net().state_dict()))
    assert mark.is_dir()


def test_a_plain_pickle_is_refused(tmp_path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(Runs(str(mark))))
    with pytest.raises(FileError, match=r"plain\.pkl is no PyTorch checkpoint"):
        read_state_dict(path)
    assert not mark.exists()


def test_a_whole_module_needs_trust(tmp_path) -> None:
    torch.save(net(), tmp_path / "whole.pt")
    with pytest.raises(FileError, match="Sequential"):
        read_state_dict(tmp_path / "whole.pt")
    assert same(read_state_dict(tmp_path / "whole.pt", trust=True), dict(net().state_dict()))


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("damage", ["cut", "head", "flip"])
def test_damaged_files_are_named(tmp_path, kind: str, damage: str) -> None:
    path = tmp_path / "damaged.pt"
    if kind == "safetensors":
        safetensors.torch.save_file(net().state_dict(), path)
    else:
        torch.save(net().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "head":
        content = content[:12]
    else:
        content[8:200] = bytes(byte ^ 0x55 for byte in content[8:200])
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"damaged\.pt (is no|is a corrupt|must be a|is a pickle)"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello world, this is text", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04"]
)
def test_what_is_no_checkpoint_is_named(tmp_path, content: bytes) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"other\.pt"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [{"epoch": 3}, {"state_dict": {}}, [1, 2], torch.zeros(3)])
def test_a_checkpoint_without_tensors_says_what_it_holds(tmp_path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(FileError, match="must hold a state_dict"):
        read_state_dict(tmp_path / "a.pt")


def test_a_zip_bomb_is_refused(tmp_path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02}.")
        archive.writestr("bomb/data/0", bytes(50 * 2**20))
    with pytest.raises(FileError, match=r"bomb\.pt claims to unpack"):
        read_state_dict(path)


def test_a_program_is_told_apart(tmp_path) -> None:
    path = tmp_path / "scripted.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scripted/constants.pkl", b"\x80\x02).")
        archive.writestr("scripted/code/__torch__.py", "")
    with pytest.raises(FileError, match="TorchScript"):
        read_state_dict(path)


def test_folder_missing_and_loop_are_named(tmp_path) -> None:
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    for name in ("loop.pt", "missing.pt", "."):
        with pytest.raises(FileError):
            read_state_dict(tmp_path / name)


def test_a_pipe_does_not_hang(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(FileError, match="pipe"):
        read_state_dict(tmp_path / "pipe.pt")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(prefix: str) -> None:
    source, target = net(), net()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    load_weights(target, {prefix + name: value for name, value in source.state_dict().items()}, origin="a.pt")
    assert same(dict(target.state_dict()), dict(source.state_dict()))


def test_a_prefix_of_the_model_itself_stays() -> None:
    model = nn.ModuleDict({"model": nn.Linear(2, 2)})
    assert without_prefix(model.state_dict(), model).keys() == model.state_dict().keys()


def test_a_mismatch_lists_a_few_of_each_kind() -> None:
    state = dict(net().state_dict())
    del state["0.weight"]
    state["9.weight"] = torch.zeros(1)
    state["3.bias"] = torch.zeros(5)
    with pytest.raises(FileError) as caught:
        load_weights(net(), state, origin="a.pt")
    text = str(caught.value)
    for part in ("a.pt", "1 missing: 0.weight", "not in the model: 9.weight", "3.bias (5,) for (2,)"):
        assert part in text


def test_the_number_of_classes_is_read_off_the_last_layer() -> None:
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 7)).state_dict()
    assert classes_in({f"module.{name}": value for name, value in other.items()}, net()) == 7
    assert classes_in(net().state_dict(), net()) is None
    assert classes_in({"3.weight": torch.zeros(7, 5)}, net()) is None


@pytest.mark.core
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_model_does_not_need_its_weights_file_any_more(tmp_path, suffix: str) -> None:
    """Weights are mapped while they are copied, and no longer: a file may be written over by the next training."""
    module, state = nn.Linear(300, 300), nn.Linear(300, 300).state_dict()
    path = tmp_path / f"w{suffix}"
    torch.save(state, path) if suffix == ".pt" else safetensors.torch.save_file(state, path)
    load_weights(module, read_state_dict(path), origin="w")
    path.write_bytes(b"")
    assert torch.equal(module.weight, state["weight"])
