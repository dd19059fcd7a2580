"""The ``.params`` of MXNet 2: a zip of ``.npy`` files, read without unpickling."""

from __future__ import annotations

import math
import zipfile
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import FileError
from pellucid.models.files import reason

MOST_INFLATION = 20  # times the archive's size; weights hardly compress, so more is a zip bomb


def read_npz(file: BinaryIO, *, origin: str) -> dict[str, Tensor]:
    """Return the arrays of an ``.npz`` archive by name.

    Raises:
        FileError: it is corrupt, hostile, or holds something else than arrays of numbers.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            size = file.seek(0, 2)
            if sum(member.file_size for member in members) > MOST_INFLATION * size + 2**20:
                raise FileError(f"{origin} claims to unpack to more than {MOST_INFLATION} times its size.")
            return {_name(member, origin): _array(archive, member, origin) for member in members}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{origin} is a damaged archive of arrays: {reason(error)}.") from error
    except Exception as error:  # zlib and lzma raise kinds of their own on broken data
        raise FileError(f"{origin} is a damaged archive of arrays: {reason(error)}.") from error


def _name(member: zipfile.ZipInfo, origin: str) -> str:
    if not member.filename.endswith(".npy"):
        raise FileError(f"{origin} must hold .npy arrays alone, but holds {member.filename!r}.")
    return member.filename.removesuffix(".npy")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, origin: str) -> Tensor:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise FileError(f"{origin}: {member.filename} is of the unknown .npy version {version}.")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = header(stream)
        if dtype.kind not in "fiub":
            raise FileError(f"{origin}: {member.filename} must hold numbers, but holds {dtype}.")
        needed = math.prod(shape) * dtype.itemsize
        if any(length < 0 for length in shape) or needed > member.file_size:
            raise FileError(f"{origin}: {member.filename} claims the shape {shape}, but is {member.file_size:,} bytes.")
        content = stream.read(needed)
    if len(content) != needed:
        raise FileError(f"{origin}: {member.filename} ends too early.")
    array = np.frombuffer(bytearray(content), dtype=dtype.newbyteorder("<") if dtype.byteorder == "=" else dtype)
    array = array.reshape(shape, order="F" if by_columns else "C").astype(dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
