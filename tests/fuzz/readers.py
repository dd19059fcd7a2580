"""Every parser of the package with sound files to spoil."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from pellucid import load
from pellucid.data.arrays import read_npy, read_npz
from pellucid.data.images import read_image
from pellucid.data.tables import read_csv
from pellucid.models.exported.archive import read_archive
from pellucid.models.exported.load import build
from pellucid.models.labels import read_labels
from pellucid.models.mxnet import load as mxnet
from pellucid.models.mxnet.params import read_params
from pellucid.models.preprocessing import Preprocessing
from pellucid.models.registry import LOADERS
from pellucid.models.spec import parse_spec
from pellucid.models.torchscript import is_torchscript
from pellucid.models.weights import read_state_dict

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Reader:
    """A parser: what it reads, under which suffix, and how it is called with the path."""

    name: str
    suffix: str
    read: Callable[[Path], Any]
    seeds: tuple[bytes, ...]


def readers(folder: Path) -> Iterator[Reader]:
    """All of them; ``folder`` takes the files that a case needs beside its own."""
    models = DATA / "mxnet" / "models"
    symbols = _files(models, "*-symbol.json", largest=60_000) + _files(DATA / "mxnet" / "formats", "*.json")
    weights = folder / "weights.params"
    weights.write_bytes((models / "symbol_cnn" / "symbol_cnn-0000.params").read_bytes())
    yield Reader("mxnet symbol", "-symbol.json", mxnet.read_symbol, symbols)
    symbol = (models / "symbol_cnn" / "symbol_cnn-symbol.json").read_bytes()
    yield Reader("mxnet model", "-symbol.json", lambda path: mxnet.build(path, weights), (symbol,))
    params = _files(DATA / "mxnet" / "formats", "*.params") + _files(models, "digits_mlp-0000.params")
    yield Reader("mxnet params", ".params", read_params, params)
    yield Reader("exported program", ".pt2", _program, _files(DATA / "exported", "*.pt2"))
    tensors = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.int64)}
    plain = safetensors.torch.save(tensors)
    old, new = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": tensors}, new)
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    yield Reader("weights", ".pt", _weights, (plain, new.getvalue(), old.getvalue()))
    yield Reader("explanation", ".pellucid", load, (_explanation(folder),))
    yield Reader("npy", ".npy", read_npy, (_npy(np.ones((2, 3), np.float32)), _npy(np.array(["a", "b"]))))
    yield Reader("npz", ".npz", read_npz, (_npz(np.savez), _npz(np.savez_compressed)))
    yield Reader("image", ".png", read_image, tuple(_pictures()))
    names = json.dumps({str(k): f"class {k}" for k in range(5)}).encode()
    yield Reader("labels", ".json", read_labels, (names, json.dumps(["a", "b"]).encode()))
    yield Reader("labels", ".txt", read_labels, (b"one\ntwo, zwei\nthree\n",))
    settings = {"resize": [256, 300], "crop": 224, "mean": [0.485, 0.456, 0.406], "std": [0.2, 0.2, 0.2]}
    yield Reader("preprocessing", ".json", Preprocessing.from_file, (json.dumps(settings).encode(),))
    specs = (b"torchvision:resnet18?weights=a.pt&classes=7", b"mxnet:a-symbol.json?params=b&outputs=x,y", b"demo")
    yield Reader("specification", ".txt", _specification, specs)
    if importlib.util.find_spec("pandas"):
        yield Reader("table", ".csv", read_csv, (b"a,b,c\n1,2,3\n4.5,5,6e3\n",))
    if importlib.util.find_spec("onnx"):
        from pellucid.models.onnx.load import load_onnx

        yield Reader("onnx", ".onnx", lambda path: load_onnx(parse_spec(f"onnx:{path}", LOADERS)), _onnx(folder))


def _files(folder: Path, pattern: str, largest: int = 200_000) -> tuple[bytes, ...]:
    found = tuple(path.read_bytes() for path in sorted(folder.rglob(pattern)) if path.stat().st_size < largest)
    assert found, pattern
    return found


def _program(path: Path) -> object:
    return build(read_archive(path), origin=path)


def _weights(path: Path) -> object:
    return is_torchscript(path) or read_state_dict(path)


def _specification(path: Path) -> object:
    return parse_spec(path.read_bytes().decode("utf-8", "replace"), LOADERS)


def _explanation(folder: Path) -> bytes:
    import pellucid as pl

    torch.manual_seed(0)
    pl.explain(torch.nn.Linear(3, 2), torch.ones(2, 3), target=1).save(folder / "seed.pellucid")
    return (folder / "seed.pellucid").read_bytes()


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, x=np.ones((2, 3), np.float32), y=np.arange(2))
    return file.getvalue()


def _pictures() -> Iterator[bytes]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 12, 3), dtype=np.uint8))
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        file = io.BytesIO()
        picture.save(file, form)
        yield file.getvalue()


def _onnx(folder: Path) -> tuple[bytes, ...]:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [value("z", TensorProto.FLOAT, None)],
        [weight],
    )
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    if not importlib.util.find_spec("onnxruntime"):
        return (content,)
    from tests.models.onnx import test_files
    from tests.models.onnx.test_batch import attention

    (folder / "w.bin").write_bytes(test_files.W.tobytes())
    richer = (test_files.dense(), test_files.nested(3), test_files.exploding(4), test_files.dense(test_files.outside()))
    return content, *(made.SerializeToString() for made in (*richer, attention(2)))
