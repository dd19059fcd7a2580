"""MXNet's ``.params``: a list of named arrays, in every version of the format.

Layout (``src/ndarray/ndarray.cc`` of MXNet 1.9.1), little-endian: a magic number, the arrays one after the other, their
names. Each array starts with a version of its own. MXNet 2 writes a zip of ``.npy`` files under the same name. Nothing
is allocated before the file was found to be long enough to hold it.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from pellucid.errors import FileError
from pellucid.models.files import reason, regular_file
from pellucid.models.mxnet.npz import read_npz

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE, ROW_SPARSE, CSR = 0, 1, 2
MOST_DIMENSIONS = 32
LARGEST_SIDE = 2**40
LARGEST_EMPTY = 2**60
MOST_INFLATION = 20  # times the file's size, for arrays stored sparsely
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.uint8,
    torch.int32,
    torch.int8,
    torch.int64,
    torch.bool,
    torch.int16,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bfloat16,
)


def read_params(path: str | Path) -> dict[str, Tensor]:
    """Return the arrays of a ``.params`` file by name; those without names get their numbers as names.

    Names are as in the file, ``arg:NAME`` and ``aux:NAME`` in exported models. Arrays without a value are left out.

    Raises:
        FileError: the file is missing, corrupt, truncated or hostile.
    """
    place = regular_file(path)
    try:
        with place.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(2) == b"PK":
                return read_npz(file, origin=str(path))
            file.seek(0)
            return parse_params(file, size, origin=str(path))
    except OSError as error:
        raise FileError(f"{path} must be a readable file, but cannot be read: {reason(error)}.") from error


def parse_params(file: BinaryIO, size: int, *, origin: str) -> dict[str, Tensor]:
    """Read the list of arrays from ``file``, which holds ``size`` bytes and stands at its beginning."""
    source = _Source(file, size, origin)
    magic, _, count = source.numbers("QQQ")
    if magic != LIST_MAGIC:
        raise FileError(
            f"{origin} must be an MXNet .params file, but starts with {magic:#x} instead of {LIST_MAGIC:#x}."
        )
    if count > source.left // 4:
        raise FileError(f"{origin} claims to hold {count:,} arrays, but only {source.left:,} bytes follow.")
    arrays = [_array(source) for _ in range(count)]
    (named,) = source.numbers("Q")
    if named not in (0, count):
        raise FileError(f"{origin} must name all of its {count:,} arrays or none, but names {named:,}.")
    names = [source.text() for _ in range(named)] or [str(index) for index in range(count)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FileError(f"{origin} holds two arrays called {twice!r}.")
    return {name: array for name, array in zip(names, arrays, strict=True) if array is not None}


class _Source:
    """Reads from a file of known length, and says what is wrong where."""

    def __init__(self, file: BinaryIO, size: int, origin: str) -> None:
        self._file = file
        self.size = self.left = size
        self.origin = origin

    def numbers(self, form: str) -> tuple[int, ...]:
        """Whole numbers, laid out as ``struct`` has it, little-endian and without padding."""
        return struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")))

    def text(self) -> str:
        (length,) = self.numbers("Q")
        try:
            return self._bytes(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise FileError(f"{self.origin} holds a name that is no UTF-8 at byte {self._here}: {error}.") from error

    def shape(self) -> tuple[int, ...] | None:
        """Lengths of the axes, None for a shape that is not known."""
        (dimensions,) = self.numbers("i")
        return None if dimensions == -1 else self.lengths(dimensions, "q")

    def lengths(self, dimensions: int, form: str) -> tuple[int, ...]:
        if not 0 <= dimensions <= MOST_DIMENSIONS:
            raise self.broken(f"an array of {dimensions:,} dimensions")
        lengths = self.numbers(form * dimensions)
        # An axis of length 0 beside giant ones holds nothing, but no tensor can have that shape.
        giant = 0 in lengths and math.prod(length for length in lengths if length) > LARGEST_EMPTY
        if any(not 0 <= length <= LARGEST_SIDE for length in lengths) or giant:
            raise self.broken(f"an array of shape {lengths}")
        return lengths

    def dtype(self) -> torch.dtype:
        (number,) = self.numbers("i")
        if not 0 <= number < len(DTYPES):
            raise self.broken(f"an array of the unknown type {number}")
        return DTYPES[number]

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An array's numbers, read into memory of their own."""
        stored = torch.uint8 if dtype == torch.bool else dtype
        count = math.prod(shape)
        if count * stored.itemsize > self.left:
            raise self.broken(
                f"an array of shape {shape}, which needs {count * stored.itemsize:,} bytes where {self.left:,} follow"
            )
        tensor = torch.empty(count, dtype=stored)
        if count and self._file.readinto(tensor.view(torch.uint8).numpy()) != tensor.nbytes:  # type: ignore[attr-defined]
            raise self.broken("less than its length promises; it was cut off while being read")
        self.left -= tensor.nbytes
        return tensor.ne(0).view(shape) if dtype == torch.bool else tensor.view(shape)

    def broken(self, what: str) -> FileError:
        """The error for something that no sound file holds."""
        return FileError(f"{self.origin} holds {what}, at byte {self._here:,}; it is damaged or no .params file.")

    @property
    def _here(self) -> int:
        return self.size - self.left

    def _bytes(self, count: int) -> bytes:
        if count > self.left:
            raise FileError(
                f"{self.origin} ends too early: {count:,} bytes are expected at byte {self._here:,}, but only "
                f"{self.left:,} follow; was it copied completely?"
            )
        self.left -= count
        return self._file.read(count)


def _array(source: _Source) -> Tensor | None:
    (version,) = source.numbers("I")
    if version in (V2, V3):
        (storage,) = source.numbers("i")
        if storage != DENSE:
            return _sparse(source, storage)
        shape = source.shape()
        if shape is None or (version == V2 and not shape):
            return None
    elif version == V1:
        shape = source.shape()
    else:  # before 0.11 an array starts with the number of its dimensions
        shape = source.lengths(version, "I")
    if not shape and version != V3:
        return None
    source.numbers("ii")  # the device that it was saved from
    dtype = source.dtype()
    return source.tensor(shape or (), dtype)


def _sparse(source: _Source, storage: int) -> Tensor | None:
    if storage not in (ROW_SPARSE, CSR):
        raise source.broken(f"an array stored in the unknown way {storage}")
    stored, shape = source.shape(), source.shape()
    if not shape or stored is None:
        return None
    source.numbers("ii")
    dtype = source.dtype()
    kinds = [(source.dtype(), source.shape() or ()) for _ in range(1 if storage == ROW_SPARSE else 2)]
    values = source.tensor(stored, dtype)
    indices = [source.tensor(lengths, kind).flatten().long() for kind, lengths in kinds]
    if math.prod(shape) * dtype.itemsize > MOST_INFLATION * source.size + 2**20:
        raise source.broken(f"a sparse array of shape {shape}, out of proportion to the file's {source.size:,} bytes")
    dense = torch.zeros(shape, dtype=dtype)
    try:
        if storage == ROW_SPARSE:
            dense[indices[0]] = values
        else:
            starts, columns = indices
            rows = torch.repeat_interleave(torch.arange(len(starts) - 1), starts.diff(), output_size=len(columns))
            dense[rows, columns] = values
    except (IndexError, RuntimeError, ValueError) as error:
        raise source.broken(f"a sparse array whose indices do not fit its shape {shape}") from error
    return dense
