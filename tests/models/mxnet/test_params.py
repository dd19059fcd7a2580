"""Every version of ``.params``, and files that are damaged or made to do harm."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.errors import FileError
from pellucid.models.mxnet.params import V1, V2, V3, parse_params, read_params
from tests.models.mxnet.fixtures import DATA, relative

pytestmark = pytest.mark.core
FORMATS = DATA / "formats"
NAMES = [
    "v0_handmade",
    "v1_handmade",
    "v2_handmade",
    "v2_dtypes",
    "v2_list_no_names",
    "v2_saved_on_gpu1",
    "v2_sparse",
    "v3_np_shape",
    "mixed_versions",
    "mxnet2_npz",
]


def parse(content: bytes) -> dict[str, Tensor]:
    return parse_params(io.BytesIO(content), len(content), origin="a.params")


def listed(*arrays: bytes, names: tuple[str, ...] = ()) -> bytes:
    """A list of arrays as bytes."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays)), *arrays, struct.pack("<Q", len(names))]
    return b"".join([*parts, *(struct.pack("<Q", len(name.encode())) + name.encode() for name in names)])


def array(shape: tuple[int, ...], data: bytes, *, version: int = V2, dtype: int = 0, storage: int = 0) -> bytes:
    """One array of a version that notes its way of storage."""
    lengths = struct.pack(f"<i{len(shape)}q", len(shape), *shape)
    return struct.pack("<Ii", version, storage) + lengths + struct.pack("<iii", 1, 0, dtype) + data


@pytest.mark.parametrize("name", NAMES)
def test_every_version_reads_as_mxnet_reads_it(name: str) -> None:
    found = read_params(FORMATS / f"{name}.params")
    with np.load(FORMATS / "expected.npz") as archive:
        start = f"{name}.params/"
        expected = {key.removeprefix(start): archive[key] for key in archive.files if key.startswith(start)}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].numpy().dtype == value.dtype, key
        assert relative(found[key].double(), value.astype(float)) == 0.0, key


def test_types_that_the_fixtures_lack() -> None:
    content = listed(
        array((2,), struct.pack("<2h", -3, 4), dtype=8),
        array((1,), struct.pack("<H", 60000), dtype=9),
        array((1,), struct.pack("<I", 4_000_000_000), dtype=10),
        array((1,), struct.pack("<Q", 2**63), dtype=11),
        array((2,), struct.pack("<2H", 0x3F80, 0xC000), dtype=12),
        array((3,), b"\x00\x01\x02", dtype=7),
    )
    found = list(parse(content).values())
    assert found[0].tolist() == [-3, 4]
    assert [value.numpy().tolist() for value in found[1:4]] == [[60000], [4_000_000_000], [2**63]]
    assert found[4].tolist() == [1.0, -2.0]
    assert found[5].tolist() == [False, True, True]


def test_arrays_without_a_value_are_left_out() -> None:
    nothing = struct.pack("<Iii", V2, 0, 0)
    unknown = struct.pack("<Iii", V3, 0, -1)
    scalar = array((), struct.pack("<f", 2.5), version=V3)
    found = parse(listed(nothing, unknown, scalar, names=("arg:a", "arg:b", "arg:c")))
    assert list(found) == ["arg:c"]
    assert found["arg:c"].shape == ()
    assert float(found["arg:c"]) == 2.5


WHOLE = listed(array((2, 3), bytes(24)), array((4,), bytes(16)), names=("arg:w", "aux:m"))


@pytest.mark.parametrize("length", range(0, len(WHOLE), 5))
def test_a_file_that_was_cut_off_is_named(length: int) -> None:
    with pytest.raises(FileError, match=r"a\.params (ends too early|holds an array|claims to hold)"):
        parse(WHOLE[:length])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (struct.pack("<QQQ", 0x113, 0, 0), "starts with 0x113 instead of 0x112"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "claims to hold 1,152,921,504,606,846,976 arrays"),
        (listed(array((2**33, 2**33), b"")), "needs .* bytes where"),
        (listed(array((2**50, 1), b"")), "an array of shape"),
        (listed(array((0, 2**62), b"")), "an array of shape"),
        (listed(array((0, 2**39, 2**39), b"")), "an array of shape"),
        (listed(array((-1, 4), bytes(16))), "an array of shape"),
        (listed(struct.pack("<Iii", V2, 0, 10**6)), "1,000,000 dimensions"),
        (listed(array((1,), bytes(4), dtype=13)), "unknown type 13"),
        (listed(array((1,), bytes(4), storage=7)), "unknown way 7"),
        (listed(array((1,), bytes(4)), names=("a", "b")), "must name all of its 1 arrays or none, but names 2"),
        (listed(array((1,), bytes(4)), array((1,), bytes(4)), names=("a", "a")), "two arrays called 'a'"),
        (listed(array((1,), bytes(4)))[:-8] + struct.pack("<QQ", 1, 2**40), "ends too early"),
        (listed(array((1,), bytes(4)))[:-8] + struct.pack("<QQ", 1, 2) + b"\xff\xfe", "no UTF-8"),
    ],
)
def test_hostile_files_are_refused_before_memory_is_taken(content: bytes, said: str) -> None:
    with pytest.raises(FileError, match=said):
        parse(content)


def rows(shape: tuple[int, ...], indices: list[int]) -> bytes:
    """A sparse array of the rows ``indices``, all ones."""
    stored = struct.pack("<i2q", 2, len(indices), shape[1]) + struct.pack("<i2q", 2, *shape)
    kinds = struct.pack("<iii", 1, 0, 0) + struct.pack("<ii1q", 6, 1, len(indices))
    values = struct.pack(f"<{len(indices) * shape[1]}f", *[1.0] * len(indices) * shape[1])
    return struct.pack("<Ii", V2, 1) + stored + kinds + values + struct.pack(f"<{len(indices)}q", *indices)


def test_sparse_arrays_may_not_claim_more_than_a_file_can_mean() -> None:
    assert parse(listed(rows((3, 2), [2])))["0"].tolist() == [[0, 0], [0, 0], [1, 1]]
    with pytest.raises(FileError, match="out of proportion"):
        parse(listed(rows((2**35, 2), [2])))
    with pytest.raises(FileError, match="indices do not fit"):
        parse(listed(rows((3, 2), [3])))


@pytest.mark.parametrize("version", [V1, V2, V3])
def test_numbers_are_copied_and_stay_when_the_file_goes(tmp_path: Path, version: int) -> None:
    data = struct.pack("<2f", 1.5, -2.0)
    one = array((2,), data, version=version)
    if version == V1:
        one = struct.pack("<Iiq", V1, 1, 2) + struct.pack("<iii", 1, 0, 0) + data
    path = tmp_path / "a.params"
    path.write_bytes(listed(one, names=("arg:w",)))
    found = read_params(path)["arg:w"]
    path.write_bytes(b"x")
    assert found.tolist() == [1.5, -2.0]
    found += 1


def zipped(tmp_path: Path, members: dict[str, bytes]) -> Path:
    path = tmp_path / "a.params"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def test_arrays_of_mxnet_2_in_every_order_of_bytes_and_axes(tmp_path: Path) -> None:
    value = np.arange(6.0).reshape(2, 3)
    path = zipped(tmp_path, {"a.npy": npy(np.asfortranarray(value)), "b.npy": npy(value.astype(">f4"))})
    found = read_params(path)
    assert found["a"].dtype == torch.float64
    assert found["a"].tolist() == found["b"].tolist() == value.tolist()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a.npy": npy(np.array([{"a": 1}], dtype=object))}, "must hold numbers, but holds object"),
        ({"../a.txt": b"hello"}, "must hold .npy arrays alone, but holds '../a.txt'"),
        ({"a.npy": npy(np.zeros(2)).replace(b"(2,)", b"(99,)")[:-1]}, "claims the shape"),
        ({"a.npy": npy(np.zeros(2))[:-3]}, "claims the shape|ends too early"),
        ({"a.npy": b"\x93NUMPY\x07\x00" + bytes(20)}, "unknown .npy version"),
        ({"a.npy": b"hello"}, "damaged archive"),
        ({"a.npy": bytes(30 * 2**20)}, "claims to unpack"),
    ],
)
def test_archives_that_would_do_harm_are_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    with pytest.raises(FileError, match=said):
        read_params(zipped(tmp_path, members))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be opened"):
        read_params(tmp_path / "missing.params")
    (tmp_path / "broken.params").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(FileError, match="damaged archive"):
        read_params(tmp_path / "broken.params")
