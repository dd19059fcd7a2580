"""NumPy's files: headers are checked against the file before anything is allocated, and nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.errors import FileError
from pellucid.models.files import reason, regular_file

MOST_BYTES = 4 * 2**30  # of all arrays of one file, unpacked
# Version 3 differs from 2 only in the encoding of field names, and arrays with fields are refused.
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0, (3, 0): npy.read_array_header_2_0}
LABEL_KEYS = ("y", "label", "labels", "target", "targets")


def read_npy(path: str | Path) -> Batch:
    """Return the array of an ``.npy`` file as a batch; its first axis counts the samples.

    Floats come in torch's default dtype, whole numbers as int64.

    Raises:
        FileError: no such file, a header that does not fit the file, objects instead of numbers, or a lone number.
    """
    place = regular_file(path)
    try:
        with place.open("rb") as file:
            array = _read_array(file, place.stat().st_size, str(path))
    except OSError as error:
        raise FileError(f"{path} must be a readable file, but cannot be read: {reason(error)}.") from error
    x = to_tensor(array, str(path))
    return Batch(x, tuple(str(index) for index in range(len(x))))


def read_npz(path: str | Path) -> Batch:
    """Return the arrays of an ``.npz`` file as a batch; see :func:`read_npy`.

    An array named ``y``, ``label(s)`` or ``target(s)`` is the samples' label where others remain. One remaining array
    is the input; several are a dict of inputs.

    Raises:
        FileError: as :func:`read_npy`, or the archive is broken, unpacks to more than 4 GiB, or its arrays count
            different numbers of samples.
    """
    place = regular_file(path)
    try:
        with zipfile.ZipFile(place) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > MOST_BYTES:
                raise FileError(
                    f"{path} unpacks to {total:,} bytes, over the limit of {MOST_BYTES:,}, so it is refused."
                )
            arrays = {}
            for member in members:
                with archive.open(member) as file:
                    name = member.filename.removesuffix(".npy")
                    arrays[name] = _read_array(file, member.file_size, f"{path}, array {name!r}")
    except FileError:
        raise
    except Exception as error:  # zipfile and zlib raise nearly every kind on damaged archives
        raise FileError(f"{path} is a truncated or corrupt .npz file: {reason(error)}.") from error
    return _batch(arrays, path)


def to_tensor(array: np.ndarray[Any, Any], origin: str) -> Tensor:
    """Return an array as a tensor: floats in torch's default dtype, whole numbers as int64, truth values as they are.

    Raises:
        FileError: the array holds no numbers, or has no axis that counts samples.
    """
    if array.dtype.kind not in "fiub":
        raise FileError(f"{origin} must hold real numbers, but holds {array.dtype}.")
    if array.ndim == 0:
        raise FileError(f"{origin} must hold samples along its first axis, but has the shape {array.shape}.")
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float64)).to(torch.get_default_dtype())
    if array.dtype.kind == "b":
        return torch.from_numpy(array.copy())
    if array.dtype == np.uint64 and int(array.max()) > np.iinfo(np.int64).max:
        raise FileError(f"{origin} holds whole numbers over 2**63, which no tensor can hold.")
    return torch.from_numpy(array.astype(np.int64))


def _read_array(file: IO[bytes], size: int, origin: str) -> np.ndarray[Any, Any]:
    """Read one array from ``file`` of ``size`` bytes after its header was found to fit."""
    try:
        version = npy.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"its format version {version} is not known")
        read_header = HEADERS[version]
        shape, fortran, dtype = read_header(file)
        start = file.tell()
    except Exception as error:  # the header is text that others wrote
        raise FileError(f"{origin} is no .npy file or a damaged one: {reason(error)}.") from error
    if dtype.hasobject:
        raise FileError(
            f"{origin} holds Python objects, which only a pickle could restore; pickles can run code and are not read. "
            "Save plain numbers."
        )
    needed = math.prod(shape) * dtype.itemsize
    if any(side < 0 for side in shape) or needed == 0:
        raise FileError(f"{origin} must hold samples along its first axis, but declares the shape {shape} of {dtype}.")
    if needed > MOST_BYTES or start + needed > size:
        raise FileError(
            f"{origin} declares {shape} of {dtype}, {needed:,} bytes, but {max(0, size - start):,} follow "
            f"its header (at most {MOST_BYTES:,} are read). It is truncated or forged."
        )
    data = file.read(needed)
    if len(data) != needed:
        raise FileError(f"{origin} is truncated: {needed:,} bytes were declared, {len(data):,} came.")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _batch(arrays: Mapping[str, np.ndarray[Any, Any]], path: str | Path) -> Batch:
    if not arrays:
        raise FileError(f"{path} must hold arrays, but is an empty archive.")
    lengths = {name: array.shape[:1] for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise FileError(f"{path}: the first axis of every array must count the same samples, but: {counts}.")
    named = next((key for key in LABEL_KEYS if key in arrays and len(arrays) > 1 and arrays[key].ndim == 1), None)
    labels = None if named is None else _labels(arrays[named], f"{path}, array {named!r}")
    inputs = {key: to_tensor(value, f"{path}, array {key!r}") for key, value in arrays.items() if key != named}
    first = next(iter(inputs.values()))
    names = tuple(str(index) for index in range(len(first)))
    return Batch(first if len(inputs) == 1 else inputs, names, labels=labels)


def _labels(array: np.ndarray[Any, Any], origin: str) -> tuple[str | int | float, ...]:
    if array.dtype.kind not in "fiubU":
        raise FileError(f"{origin} must hold labels as numbers or text, but holds {array.dtype}.")
    return tuple(array.tolist())
