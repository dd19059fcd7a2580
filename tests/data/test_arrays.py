from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from pellucid.data import read_data, read_input
from pellucid.errors import FileError

pytestmark = pytest.mark.core


class Runs:
    """Makes a folder when unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("<f8", torch.float32), (">f4", torch.float32), ("<f2", torch.float32), ("u1", torch.int64), (">i4", torch.int64)],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_keeps_values(tmp_path, dtype: str, expected: torch.dtype, order: str) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    batch = read_input(tmp_path / "a.npy")
    assert batch.x.dtype == expected
    assert torch.equal(batch.x, torch.arange(24).reshape(2, 3, 4).to(expected))
    assert (batch.names, batch.kind, batch.displays) == (("0", "1"), "array", None)


def test_truth_values_stay(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.array([True, False]))
    x = read_input(tmp_path / "a.npy").x
    assert x.dtype == torch.bool
    x[0] = False  # the tensor's memory is its own, not the file's


def test_the_default_dtype_decides(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.array([0.1]))
    torch.set_default_dtype(torch.float64)
    try:
        assert read_input(tmp_path / "a.npy").x.tolist() == [0.1]
    finally:
        torch.set_default_dtype(torch.float32)


def test_npz_one_or_several_inputs_and_labels(tmp_path) -> None:
    np.savez(tmp_path / "one.npz", x=np.ones((3, 2)))
    assert read_input(tmp_path / "one.npz").x.shape == (3, 2)
    np.savez_compressed(
        tmp_path / "two.npz", ids=np.ones((3, 2), int), mask=np.ones((3, 2)), y=np.array(["a", "b", "a"])
    )
    batch = read_data(tmp_path / "two.npz", limit=2)
    assert {name: tuple(value.shape) for name, value in batch.x.items()} == {"ids": (2, 2), "mask": (2, 2)}
    assert batch.labels == ("a", "b")
    np.savez(tmp_path / "lone.npz", y=np.ones(3))
    assert read_input(tmp_path / "lone.npz").labels is None


def test_objects_are_never_unpickled(tmp_path) -> None:
    mark = tmp_path / "ran"
    evil = np.array([Runs(str(mark))], dtype=object)
    np.save(tmp_path / "evil.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "evil.npz", x=evil, allow_pickle=True)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Runs(str(mark))))
    for name, said in (("evil.npy", "pickle"), ("evil.npz", "pickle"), ("plain.npy", r"no \.npy")):
        with pytest.raises(FileError, match=said) as caught:
            read_input(tmp_path / name)
        assert name in str(caught.value)
    assert not mark.exists()


def header(shape: str, dtype: str = "'<f8'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header("(1000000000000,)") + bytes(64),
        header("(9,)") + bytes(64),
        header("(-1,)") + bytes(64),
        header("(2, 0)") + bytes(64),
        header("()") + bytes(64),
        header("(4611686018427387904, 4611686018427387904)") + bytes(64),
        header("(1,)", "'<U99999999'") + bytes(64),
        header("(1,)", "'<c16'") + bytes(64),
        header("(1,)", "[('a', '<f4'), ('b', '<f4')]") + bytes(64),
        header("(1,)", "__import__('os')") + bytes(64),
        header("(" + "(" * 3000) + bytes(64),
        b"\x93NUMPY\x09\x00" + bytes(64),
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(64),
        b"\x93NUM",
        b"nothing of that kind",
        b"",
    ],
)
def test_forged_headers_are_refused_before_anything_is_made(tmp_path, content: bytes) -> None:
    (tmp_path / "forged.npy").write_bytes(content)
    with pytest.raises(FileError, match=r"forged\.npy"):
        read_input(tmp_path / "forged.npy")
    with zipfile.ZipFile(tmp_path / "forged.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(FileError, match=r"forged\.npz"):
        read_input(tmp_path / "forged.npz")


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pellucid.data.arrays.MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(3):
            archive.writestr(f"{index}.npy", header("(60000,)") + bytes(480_000))
    with pytest.raises(FileError, match=r"bomb\.npz unpacks to 1,440,"):
        read_input(tmp_path / "bomb.npz")


def test_damaged_archives_are_named(tmp_path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(50, 50)))
    content = (tmp_path / "a.npz").read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    for name, data in (("cut.npz", content[:-200]), ("flipped.npz", bytes(flipped)), ("text.npz", b"hello")):
        (tmp_path / name).write_bytes(data)
    for name in ("cut.npz", "flipped.npz", "text.npz", "empty.npz"):
        with pytest.raises(FileError, match=name):
            read_input(tmp_path / name)


def test_arrays_that_count_different_samples(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), z=np.ones((4, 2)))
    with pytest.raises(FileError, match=r"x \(3, 2\), z \(4, 2\)"):
        read_input(tmp_path / "a.npz")


def test_numbers_that_no_tensor_holds(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.array([2**64 - 1], dtype=np.uint64))
    with pytest.raises(FileError, match=r"2\*\*63"):
        read_input(tmp_path / "a.npy")
