"""Numbers of a tensor: in the message, elsewhere in the file, or in a file of their own beside it."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import FileError, ModelError
from pellucid.models.files import reason
from pellucid.models.onnx.outline import Span

MOST_AXES = 64
TYPES: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    14: torch.complex64,
    15: torch.complex128,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
}
"""ONNX's number of a type -> torch's type."""
HALVES = {21: False, 22: True}  # whole numbers of 4 bits, two a byte: whether they have a sign
WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
"""Types with which torch can hardly compute -> ones that hold their numbers."""
EXTERNAL = 1
_SPARE = {torch.float32: "float_data", torch.float64: "double_data", torch.int64: "int64_data"}


def type_of(number: int, where: str) -> torch.dtype:
    """The type in which numbers of an ONNX type are computed.

    Raises:
        ModelError: torch has none.
    """
    if number in HALVES:
        return torch.int8 if HALVES[number] else torch.uint8
    if number not in TYPES:
        raise ModelError(f"{where} holds elements of ONNX's type {number}, which is not known here.")
    return WIDER.get(TYPES[number], TYPES[number])


class TensorReader:
    """Reads tensors of one model.

    Args:
        file: the model.
        path: where it lies; files of weights are only taken from its folder.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._folder = path.parent
        self._size = os.fstat(file.fileno()).st_size

    def read(self, proto: Any, span: Span | None = None) -> Tensor:
        """The numbers of a ``TensorProto``; see :func:`type_of` for their type.

        Raises:
            FileError: they are not those that its shape and type ask for, or lie where they must not.
            ModelError: a type that torch does not know.
        """
        where = f"the tensor {proto.name!r}"
        shape = tuple(proto.dims)
        if len(shape) > MOST_AXES or any(length < 0 for length in shape):
            raise FileError(f"{where} has the impossible shape {shape[:MOST_AXES]}.")
        made = type_of(proto.data_type, where)
        count = math.prod(shape)
        stored = torch.uint8 if proto.data_type in HALVES or made == torch.bool else TYPES[proto.data_type]
        elements = (count + 1) // 2 if proto.data_type in HALVES else count
        if proto.data_location == EXTERNAL:
            flat = self._external(proto, stored, elements, where)
        elif span is not None and (span.field == "raw_data" or _SPARE.get(stored) == span.field):
            flat = self._from(self._file, self._size, span.offset, span.length, stored, elements, where)
        elif proto.HasField("raw_data"):
            _fit(len(proto.raw_data), elements * stored.itemsize, where)
            flat = (
                torch.frombuffer(bytearray(proto.raw_data), dtype=stored) if elements else torch.empty(0, dtype=stored)
            )
        else:
            flat = _typed(proto, stored, elements, where)
        if proto.data_type in HALVES:
            flat = _unpacked(flat, HALVES[proto.data_type])[:count]
        if flat.dtype != made:
            flat = flat != 0 if made == torch.bool else flat.to(made)
        return flat.reshape(shape)

    def _external(self, proto: Any, dtype: torch.dtype, elements: int, where: str) -> Tensor:
        entries = {entry.key: entry.value for entry in proto.external_data}
        if not all(isinstance(value, str) for value in entries.values()):  # protobuf hands over bytes
            raise FileError(f"{where}: its place in another file is no text in UTF-8.")
        offset = _whole(entries.get("offset", "0"), where)
        length = _whole(entries.get("length", str(elements * dtype.itemsize)), where)
        path = self._beside(entries.get("location", ""), where)
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
            with open(descriptor, "rb", buffering=0) as file:
                return self._from(file, os.fstat(descriptor).st_size, offset, length, dtype, elements, where)
        except OSError as error:
            raise FileError(f"{where}: its numbers lie in {path}, which cannot be read: {reason(error)}.") from error

    def _beside(self, location: str, where: str) -> Path:
        """The file of that name in the model's folder, which no part of the name may leave."""
        parts = PurePosixPath(location).parts
        foreign = PureWindowsPath(location)
        tricks = foreign.anchor or location.startswith("/") or "\0" in location or ".." in (*parts, *foreign.parts)
        if not parts or tricks:
            raise FileError(
                f"{where}: its numbers must lie in a file in the model's folder, but are said to lie in "
                f"{location!r:.80}."
            )
        path = self._folder
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise FileError(
                    f"{where}: its numbers lie in {path}, which is a symbolic link and could lead anywhere, so it is "
                    "not followed. Put the file itself there (cp -L copies what a link points to)."
                )
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise FileError(f"{where}: its numbers must lie in a regular file, but {path} is none.")
        except OSError as error:
            raise FileError(f"{where}: its numbers lie in {path}, which cannot be read: {reason(error)}.") from error
        return path

    def _from(
        self, file: BinaryIO, size: int, offset: int, length: int, dtype: torch.dtype, elements: int, where: str
    ) -> Tensor:
        """Elements at a place of a file, read straight into the tensor's memory."""
        _fit(length, elements * dtype.itemsize, where)
        if offset + length > size:
            raise FileError(
                f"{where}: its numbers end at byte {offset + length:,} of a file of {size:,} bytes; was it copied "
                "completely?"
            )
        tensor = torch.empty(elements, dtype=dtype)
        room = memoryview(tensor.view(torch.uint8).numpy().data) if elements else memoryview(bytearray())
        file.seek(offset)
        while room:
            got = file.readinto(room)  # type: ignore[attr-defined]
            if not got:
                raise FileError(f"{where}: the file ended while its numbers were read.")
            room = room[got:]
        return tensor


def _whole(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise FileError(f"{where}: its place in another file must be told in whole numbers, but is {text!r:.40}.")
    return int(text)


def _fit(found: int, needed: int, where: str) -> None:
    if found != needed:
        raise FileError(f"{where} has a shape and type that need {needed:,} bytes, but comes with {found:,}.")


def _typed(proto: Any, dtype: torch.dtype, elements: int, where: str) -> Tensor:
    """Numbers that lie one by one in a field for their type; small ones are stored as the bits of a larger one."""
    name = _SPARE.get(dtype, "int32_data")
    if dtype in (torch.uint32, torch.uint64):
        name = "uint64_data"
    if dtype.is_complex:
        name = "float_data" if dtype == torch.complex64 else "double_data"
    values = getattr(proto, name)
    if len(values) != elements * (2 if dtype.is_complex else 1):
        raise FileError(f"{where} must hold {elements:,} numbers in its {name}, but holds {len(values):,}.")
    if name in ("float_data", "double_data"):
        numbers = torch.tensor(list(values), dtype=torch.float32 if name == "float_data" else torch.float64)
        return torch.view_as_complex(numbers.reshape(-1, 2)) if dtype.is_complex else numbers
    wide = np.array(list(values), dtype=np.uint64 if name == "uint64_data" else np.int64)
    if dtype == torch.int64:
        return torch.from_numpy(wide)
    bits = wide.astype({1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[dtype.itemsize])
    return torch.from_numpy(bits).view(dtype)


def _unpacked(pairs: Tensor, signed: bool) -> Tensor:
    """Two numbers from every byte, the lower half first."""
    halves = torch.stack([pairs & 15, pairs >> 4], -1).reshape(-1)
    return torch.where(halves > 7, halves.to(torch.int8) - 16, halves.to(torch.int8)) if signed else halves
