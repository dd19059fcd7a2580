"""Archives that are damaged or hostile: one clear error, nothing run, nothing unpacked."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.errors import FileError, ModelError, PellucidError
from pellucid.models import load_model
from pellucid.models.exported.operation import Operation, allowed
from tests.models.exported.programs import rewritten

pytestmark = pytest.mark.core


@pytest.fixture
def sound() -> Path:
    return Path(__file__).parents[2] / "data" / "exported" / "tied.pt2"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(Path(os.environ["PELLUCID_TRAP"])),)


@pytest.fixture(autouse=True)
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that only code in a file would make."""
    monkeypatch.setenv("PELLUCID_TRAP", str(tmp_path / "sprung"))
    yield tmp_path / "sprung"
    assert not (tmp_path / "sprung").exists()


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": Evil()}, buffer)
    return buffer.getvalue()


def weight(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(listing: dict[str, Any]) -> None:
        entry = listing["config"]["embed.weight"]
        for key, value in changes.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value

    return change


def size(*lengths: int) -> list[dict[str, int]]:
    return [{"as_int": length} for length in lengths]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (weight(sizes=size(2**40, 2**7)), "bytes do not hold"),
        (weight(sizes=size(7, 3000)), "bytes do not hold"),
        (weight(sizes=size(10**7, 3), strides=size(0, 1)), "claims 30,000,000 numbers"),
        (weight(storage_offset={"as_int": 5}), "bytes do not hold"),
        (weight(sizes=size(-2, 3)), "whole numbers"),
        (weight(sizes=[{"as_expr": "2"}, {"as_int": 3}]), "whole numbers"),
        (weight(strides=size(1)), "bytes do not hold"),
        (weight(dtype=77), "unknown type"),
        (weight(dtype="7"), "unknown type"),
        (weight(path_name="../../../../etc/passwd"), "is not in the archive"),
        (weight(path_name="/etc/passwd"), "is not in the archive"),
        (weight(path_name=["weight_0"]), "is not in the archive"),
        (weight(use_pickle=True), "weights only"),
        (lambda listing: listing.update(config=[]), "under 'config'"),
        (lambda listing: listing["config"].pop("embed.weight"), "has no parameter 'embed.weight'"),
    ],
)
def test_weights_that_lie(sound: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    path = rewritten(sound, tmp_path / "changed.pt2", weights=change)
    with pytest.raises(FileError, match=said):
        load_model(str(path))


def put(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(held: dict[str, bytes]) -> None:
        root = next(iter(held)).partition("/")[0]
        held[f"{root}/{name}"] = data

    return change


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda held: held.pop(next(key for key in held if key.endswith(name)))


def older(held: dict[str, bytes]) -> None:
    held.clear()
    held.update({"version": b"8.8", "serialized_exported_program.json": b"{}", "serialized_state_dict.pt": pickled()})


def compiled(held: dict[str, bytes]) -> None:
    drop("models/model.json")(held)
    put("data/aotinductor/model/x.so", b"\x7fELF")(held)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("models/model.json", b"[" * 100_000), "nests too deeply"),
        (put("models/model.json", b"{"), "damaged"),
        (put("models/model.json", b"[]"), "must hold a JSON object"),
        (put("models/model.json", b'{"schema_version": {"major": 7}}'), "schema version 7"),
        (put("models/model.json", b'{"schema_version": {"major": 8}}'), "no dict 'graph'"),
        (drop("models/model.json"), "must hold one exported program"),
        (drop("model_weights_config.json"), "lacks data/weights/model_weights_config.json"),
        (drop("weight_0"), "is not in the archive"),
        (older, "older than 2.8"),
        (compiled, "compiled machine code"),
    ],
)
def test_members_that_are_wrong(
    sound: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], said: str
) -> None:
    path = rewritten(sound, tmp_path / "changed.pt2", members=change)
    with pytest.raises(FileError, match=said):
        load_model(str(path))


def test_pickles_are_not_run(sound: Path, tmp_path: Path) -> None:
    """A weight, an object, the sample inputs and a weight file of the first versions of the format."""
    evil = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    objects = (
        (b'{"config": {"o": %s}}' % str(evil).replace("'", '"').replace("False", "false").encode())
        .replace(b"True", b"true")
        .replace(b"None", b"null")
    )

    def change(held: dict[str, bytes]) -> None:
        put("data/constants/opaque_obj_0", pickle.dumps(Evil()))(held)
        put("data/constants/model_constants_config.json", objects)(held)

    with pytest.raises(FileError, match="could run code"):
        load_model(str(rewritten(sound, tmp_path / "object.pt2", members=change)))
    path = rewritten(sound, tmp_path / "a.pt2", members=put("data/weights/weight_0", pickled()))
    with pytest.raises(FileError, match="weights only"):
        load_model(str(rewritten(path, tmp_path / "b.pt2", weights=weight(use_pickle=True))))
    for name in ("data/sample_inputs/model.pt", "data/weights/model.pt"):
        load_model(str(rewritten(sound, tmp_path / "c.pt2", members=put(name, pickled()))))  # never looked at


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.set_.source_Storage",
        "torch.ops.aten._test_string_default.default",
        "torch.ops.aten.__class__.default",
        "torch.ops.load_library.a.b",
        "torch.load",
        "_operator.attrgetter",
        "_operator.methodcaller.__call__",
        "math.__loader__.load_module",
        "#sympy:system",
        "",
    ],
)
def test_a_program_cannot_name_what_is_no_operator(sound: Path, tmp_path: Path, target: str) -> None:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][-1]["target"] = target

    assert not allowed(target)
    with pytest.raises(PellucidError):
        load_model(str(rewritten(sound, tmp_path / "changed.pt2", program=change)))
    with pytest.raises(ValueError, match="no operator"):
        Operation(target, (), {})


def test_expressions_of_lengths_are_not_evaluated(sound: Path, tmp_path: Path) -> None:
    """torch's own reader hands these texts to a parser that evaluates Python."""
    code = "__import__('os').mkdir(__import__('os').environ['PELLUCID_TRAP'])"

    def change(program: dict[str, Any]) -> None:
        text = {"as_expr": {"expr_str": code, "hint": {"as_int": 2}}}
        for meta in program["graph_module"]["graph"]["tensor_values"].values():
            meta["sizes"] = [text] * len(meta["sizes"])
        program["guards_code"] = [code]

    module = load_model(str(rewritten(sound, tmp_path / "changed.pt2", program=change))).module
    assert module(torch.zeros(5, 4, dtype=torch.long))[0].shape == (5, 4, 7)


def test_archives_that_unpack_to_more(sound: Path, tmp_path: Path) -> None:
    bomb = put("data/weights/weight_9", bytes(10**7))
    with pytest.raises(FileError, match="compressed"):
        load_model(str(rewritten(sound, tmp_path / "bomb.pt2", members=bomb, compression=zipfile.ZIP_DEFLATED)))
    data = bytearray(sound.read_bytes())
    entry = data.rindex(b"PK\1\2")
    data[entry + 20 : entry + 28] = (2**31).to_bytes(4, "little") * 2  # both sizes of the last member
    (tmp_path / "lies.pt2").write_bytes(data)
    with pytest.raises(FileError, match="more bytes than it has"):
        load_model(str(tmp_path / "lies.pt2"))


def test_two_members_of_one_name(sound: Path, tmp_path: Path) -> None:
    def change(held: dict[str, bytes]) -> None:
        held["other/models/model.json"] = b"{}"

    with pytest.raises(FileError, match="two members of the same name"):
        load_model(str(rewritten(sound, tmp_path / "twice.pt2", members=change)))


def test_an_input_that_is_no_tensor_of_the_program(sound: Path, tmp_path: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["signature"]["output_specs"] = [
            {"buffer_mutation": {"arg": {"name": "relu"}, "buffer_name": "b"}}
        ]

    with pytest.raises(ModelError, match="changes its own weights"):
        load_model(str(rewritten(sound, tmp_path / "changed.pt2", program=change)))
