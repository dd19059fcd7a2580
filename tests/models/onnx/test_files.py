"""Where weights lie, and files that are damaged or made to do harm."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")

import onnx
from onnx import TensorProto, helper, numpy_helper

from pellucid.errors import FileError, ModelError, PellucidError
from pellucid.models.onnx.load import build
from pellucid.models.onnx.outline import LARGE, outline
from tests.models.onnx.made import model, node, run, saved

X = np.zeros((2, 50), "float32")
W = np.arange(2000, dtype="float32").reshape(50, 40)


def dense(weight: onnx.TensorProto | None = None) -> onnx.ModelProto:
    made = model([node("Gemm", "x", "w")], {"x": X}, {"w": W})
    if weight is not None:
        made.graph.initializer[0].CopyFrom(weight)
    return made


def outside(location: str = "w.bin", **entries: int | str) -> onnx.TensorProto:
    """The weight as one that lies in another file."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=W.shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    return weight


def test_larger_weights_are_not_parsed(tmp_path: Path) -> None:
    content = dense().SerializeToString()
    parts = outline(memoryview(content), origin="net.onnx")
    assert W.nbytes > LARGE > len(parts.skeleton)
    span = parts.spans[0]
    assert content[span.offset : span.offset + span.length] == W.tobytes()
    module = build(saved(tmp_path, dense()))
    assert torch.equal(module.y.weight, torch.from_numpy(W).T)


@pytest.mark.parametrize("kind", ["float_data", "double_data", "two pieces"])
def test_weights_that_lie_number_by_number(tmp_path: Path, kind: str) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=W.shape)
    if kind == "double_data":
        weight = helper.make_tensor("w", TensorProto.DOUBLE, W.shape, W.flatten())
    elif kind == "float_data":
        weight.float_data.extend(W.flatten())
    else:  # protobuf joins what a message holds twice
        weight.float_data.extend(W.flatten()[:1500])
        weight.ParseFromString(
            weight.SerializeToString() + TensorProto(float_data=W.flatten()[1500:]).SerializeToString()
        )
    module = build(saved(tmp_path, dense(weight)))
    assert torch.equal(module.y.weight, torch.from_numpy(W).T)


def test_weights_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(bytes(16) + W.tobytes())
    path = saved(tmp_path, dense(outside("sub/w.bin", offset=16, length=W.nbytes)))
    assert torch.equal(build(path).y.weight, torch.from_numpy(W).T)
    made = dense()
    onnx.save_model(made, tmp_path / "apart.onnx", save_as_external_data=True, location="apart.data", size_threshold=0)
    assert torch.equal(build(tmp_path / "apart.onnx").y.weight, torch.from_numpy(W).T)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("", "must lie in a file in the model's folder"),
        ("../w.bin", "must lie in a file in the model's folder"),
        ("sub/../../w.bin", "must lie in a file in the model's folder"),
        ("/etc/passwd", "must lie in a file in the model's folder"),
        ("C:\\w.bin", "must lie in a file in the model's folder"),
        ("..\\w.bin", "must lie in a file in the model's folder"),
        ("\\\\server\\w.bin", "must lie in a file in the model's folder"),
        ("w\0.bin", "must lie in a file in the model's folder"),
        ("link.bin", "symbolic link"),
        ("linked/w.bin", "symbolic link"),
        ("missing.bin", "cannot be read"),
        ("folder", "must lie in a regular file"),
        ("pipe", "must lie in a regular file"),
        ("x" * 5000, "cannot be read"),
    ],
)
def test_nothing_outside_the_folder_is_read(tmp_path: Path, location: str, said: str) -> None:
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    with pytest.raises(FileError, match=said):
        build(saved(folder, dense(outside(location))))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"offset": 1}, "end at byte 8,001 of a file of 8,000"),
        ({"offset": -1}, "whole numbers, but is '-1'"),
        ({"offset": "1e3"}, "whole numbers"),
        ({"offset": 2**63}, "end at byte"),
        ({"length": 7999}, "need 8,000 bytes, but comes with 7,999"),
        ({"length": 10**30}, "whole numbers"),
    ],
)
def test_places_beyond_the_file_are_refused(tmp_path: Path, entries: dict[str, int | str], said: str) -> None:
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    with pytest.raises(FileError, match=said):
        build(saved(tmp_path, dense(outside(**entries))))


def tensor(dims: Sequence[int], kind: int = TensorProto.FLOAT, content: bytes = b"") -> onnx.TensorProto:
    return TensorProto(name="w", data_type=kind, dims=dims, raw_data=content)


@pytest.mark.parametrize(
    ("weight", "kind", "said"),
    [
        (tensor([2**40, 2**40]), FileError, "but comes with 0"),
        (tensor([-1, 3]), FileError, "impossible shape"),
        (tensor([1] * 70, content=bytes(4)), FileError, "impossible shape"),
        (tensor([3], content=bytes(13)), FileError, "need 12 bytes, but comes with 13"),
        (tensor([2], TensorProto.STRING), ModelError, "type 8"),
        (tensor([2], 999), ModelError, "type 999"),
        (
            TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10**9]),
            FileError,
            "must hold 1,000,000,000 numbers",
        ),
    ],
)
def test_shapes_that_the_numbers_do_not_fill(
    tmp_path: Path, weight: onnx.TensorProto, kind: type[PellucidError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        build(saved(tmp_path, dense(weight)))


def test_every_type_of_number_is_read(tmp_path: Path) -> None:
    for kind in (
        "float16",
        "float64",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "bool",
    ):
        values = np.array([[1, 0, 1], [0, 1, 1]]).astype(kind)
        for weight in (
            numpy_helper.from_array(values, "w"),
            helper.make_tensor("w", helper.np_dtype_to_tensor_dtype(values.dtype), values.shape, values.flatten()),
        ):
            made = model([node("Cast", "w", to=1), node("Mul", "x", "c")], {"x": np.zeros((2, 3), "f4")}, {"w": W})
            made.graph.node[0].output[0] = "c"
            made.graph.initializer[0].CopyFrom(weight)
            (found,) = run(build(saved(tmp_path, made)), torch.ones(2, 3))
            assert found.tolist() == values.astype(float).tolist(), kind


def test_whole_numbers_of_four_bits(tmp_path: Path) -> None:
    for kind, expected in ((TensorProto.INT4, [1.0, -1.0, -8.0]), (TensorProto.UINT4, [1.0, 15.0, 8.0])):
        made = model(
            [node("DequantizeLinear", "w", "s"), node("Mul", "x", "y", made="z")],
            {"x": X[0, :3]},
            {"w": W, "s": np.float32(1)},
            outputs=["z"],
        )
        made.graph.initializer[0].CopyFrom(
            TensorProto(name="w", data_type=kind, dims=[3], raw_data=bytes([0xF1, 0x08]))
        )
        assert run(build(saved(tmp_path, made)), torch.ones(3))[0].tolist() == expected


def nested(depth: int) -> onnx.ModelProto:
    plain = body = helper.make_graph([node("Identity", "x")], "b", [], [onnx.ValueInfoProto(name="y")])
    for _ in range(depth):
        inner = node("If", "c", then_branch=body, else_branch=plain)
        body = helper.make_graph([inner], "b", [], [onnx.ValueInfoProto(name="y")])
    return model(body.node, {"x": X, "c": np.zeros((), "bool")})


def exploding(depth: int) -> onnx.ModelProto:
    """Functions that call the next one twice."""
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "F0", ["x"], ["y"], [node("Relu", "x")], opset)]
    for level in range(1, depth):
        calls = [node(f"F{level - 1}", "x", made="h", domain="own"), node(f"F{level - 1}", "h", domain="own")]
        functions.append(helper.make_function("own", f"F{level}", ["x"], ["y"], calls, opset))
    return model([node(f"F{depth - 1}", "x", domain="own")], {"x": X}, functions=functions, domains=[("own", 1)])


def endless() -> onnx.ModelProto:
    opset = [helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "F", ["x"], ["y"], [node("F", "x", domain="own")], opset)
    return model([node("F", "x", domain="own")], {"x": X}, functions=[function], domains=[("own", 1)])


def test_functions_are_written_out_but_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, exploding(4))
    assert len(build(path).steps) == 8
    monkeypatch.setattr("pellucid.models.onnx.read.MOST_NODES", 10)
    with pytest.raises(FileError, match="more than 10 nodes with its functions written out"):
        build(path)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (nested(14), "within each other"),
        (exploding(40), "within each other"),
        (endless(), "within each other"),
        (model([node("Relu", "nowhere")], {"x": X}), "takes 'nowhere', which no earlier node makes"),
        (model([node("Relu", "x")], {"x": X}, outputs=["z"]), "takes 'z'"),
        (model([node("Relu", "x")], {"x": X}, outputs=[]), "names no outputs"),
        (model([node("Relu")], {"x": X}), "must have an input 0"),
        (model([node("ConstantOfShape", "s")], {}, {"s": np.array([2**20, 2**20])}), "would make a constant of"),
        (
            model([node("Expand", "x", "s")], {}, {"x": X[:1, :1], "s": np.array([2**20, 2**20])}),
            "would make a constant",
        ),
        (
            model([node("Range", "a", "b", "c")], {}, {"a": np.array(0), "b": np.array(2**50), "c": np.array(1)}),
            "would make a constant|cannot be built",
        ),
        (model([node("Tile", "x", "s")], {}, {"x": X, "s": np.array([2**20, 2**20])}), "would make a constant"),
        (model([node("Pad", "x", "s")], {}, {"x": X, "s": np.array([2**20, 2**20, 0, 0])}), "would make a constant"),
        (
            model([node("OneHot", "x", "d", "v")], {}, {"x": X, "d": np.array(2**30), "v": X[0, :2]}),
            "would make a constant",
        ),
        (model([node("Conv", "x", "w", kernel_shape=[0])], {"x": X}, {"w": X}), "kernel_shape"),
        (model([node("Conv", "x", "w", pads=[1])], {"x": X}, {"w": W[None, None]}), "must fit 2 spatial axes"),
        (model([node("Softmax", "x", axis="a")], {"x": X}), "axis must be a whole number, but is 'a'"),
    ],
)
def test_graphs_that_cannot_be_or_would_grow_beyond_measure(tmp_path: Path, made: onnx.ModelProto, said: str) -> None:
    with pytest.raises(FileError, match=said):
        build(saved(tmp_path, made))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello world, this is text", "must be an ONNX model|cut off"),
        (b"\x0b" * 40, "must be an ONNX model"),
        (b"\xff" * 40, "must be an ONNX model"),
        (b"\x3a\xff\xff\xff\xff\x0f", "cut off"),
        (b"\x08\x01" * 400_001, "more than 400,000 fields"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(FileError, match=said):
        build(tmp_path / "a.onnx")


def fuzzed(content: bytes, rng: random.Random) -> bytes:
    """Cut off, with bits turned, a piece doubled, or a number grown."""
    place = rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + content[place : place + rng.randrange(50)] + content[place:]
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(len(content))] = 0xFF if kind == 2 else rng.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.slow)])
def test_damage_gives_a_clear_error_or_a_model(tmp_path: Path, count: int) -> None:
    rng = random.Random(0)
    sources = [made.SerializeToString() for made in (dense(), nested(2), exploding(3), dense(outside()))]
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = tmp_path / "net.onnx"
    refused = 0
    for _ in range(count):
        path.write_bytes(fuzzed(rng.choice(sources), rng) or b"x")
        try:
            build(path)
        except PellucidError:
            refused += 1
    assert refused > count / 4
