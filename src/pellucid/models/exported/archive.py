"""The ``.pt2`` archive of ``torch.export.save``: a zip with a program in JSON and weights as bare bytes.

Nothing of it is unpickled but tensors that torch itself had to pickle, and those with weights only. Weights are mapped
from the file, not copied.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import FileError
from pellucid.models.files import LARGEST_TEXT, reason, regular_file

SCHEMA = 8  # the major version of torch's serialised programs
MOST_MEMBERS = 10**5
MOST_REPEATED = 20  # times the bytes that a member stores, for weights whose strides repeat them
DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    9: torch.complex32,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
    28: torch.uint16,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
    31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz,
    34: torch.uint32,
    35: torch.uint64,
}
"""Numbers of types as programs write them."""


@dataclass(frozen=True)
class Archive:
    """What is read of a ``.pt2``.

    Args:
        program: the parsed ``models/model.json``.
        weights: parameters and buffers by name; of two names for the same bytes both give one tensor.
        constants: other tensors by name.
    """

    program: dict[str, Any]
    weights: Mapping[str, Tensor]
    constants: Mapping[str, Tensor]


def read_archive(path: str | Path) -> Archive:
    """Read a ``.pt2`` file.

    Raises:
        FileError: it is missing, damaged, hostile, of another kind, or cannot be had without unpickling.
    """
    place = regular_file(path)
    try:
        with zipfile.ZipFile(place) as archive:
            members = _Members(archive, place)
            program = members.json("models/model.json")
            version = program.get("schema_version")
            major = version.get("major") if isinstance(version, dict) else None
            if major != SCHEMA:
                raise FileError(
                    f"{path} holds a program of schema version {major!r:.20}, but only {SCHEMA} is read; export it "
                    "again with a torch of 2.8 or newer."
                )
            weights = members.tensors("data/weights/", "model_weights_config.json")
            constants = members.tensors("data/constants/", "model_constants_config.json")
            return Archive(program, weights, constants)
    except FileError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        raise FileError(f"{path} is a damaged .pt2 archive: {reason(error)[:300]}.") from error


class _Members:
    """The members of the archive by their place below its one folder."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive, self._path = archive, path
        self._size = path.stat().st_size
        infos = archive.infolist()
        if len(infos) > MOST_MEMBERS:
            raise FileError(f"{path} holds {len(infos):,} members; at most {MOST_MEMBERS:,} are read.")
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
            raise FileError(f"{path} holds compressed or encrypted members, as torch.export never writes them.")
        if sum(info.file_size for info in infos) > self._size:
            raise FileError(f"{path} claims to hold more bytes than it has; it is damaged or hostile.")
        self._infos = {info.filename.partition("/")[2] or info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise FileError(f"{path} holds two members of the same name; it is damaged or hostile.")
        if "models/model.json" not in self._infos:
            raise FileError(f"{path} {self._what_else()}")

    def _what_else(self) -> str:
        if any("aotinductor/" in name for name in self._infos):
            return "holds compiled machine code (AOTInductor), not a program; save it with torch.export.save()."
        if "serialized_exported_program.json" in self._infos:
            return "was written by torch older than 2.8, whose weights are pickled; export it again with a newer one."
        others = sorted(name for name in self._infos if name.startswith("models/"))
        held = ", ".join(others[:3]) or "no program at all"
        return f"must hold one exported program, models/model.json, as torch.export.save() writes it; it holds {held}."

    def json(self, name: str) -> dict[str, Any]:
        """A member in JSON that holds an object."""
        if name not in self._infos:
            raise FileError(f"{self._path} lacks {name}, so it cannot be loaded.")
        if self._infos[name].file_size > LARGEST_TEXT:
            raise FileError(f"{self._path}: {name} holds {self._infos[name].file_size:,} bytes, more than is read.")
        try:
            found = json.loads(self._archive.read(self._infos[name]))
        except RecursionError as error:
            raise FileError(f"{self._path}: {name} nests too deeply.") from error
        if not isinstance(found, dict):
            raise FileError(f"{self._path}: {name} must hold a JSON object.")
        return found

    def tensors(self, folder: str, listing: str) -> dict[str, Tensor]:
        """The tensors of a folder by name."""
        entries = self.json(folder + listing).get("config")
        if not isinstance(entries, dict):
            raise FileError(f"{self._path}: {folder}{listing} must list tensors under 'config'.")
        made: dict[str, Tensor] = {}
        same: dict[str, Tensor] = {}
        for name, entry in entries.items():
            key = json.dumps(entry, sort_keys=True)
            if key not in same:
                same[key] = self._tensor(folder, name, entry)
            made[name] = same[key]
        return made

    def _tensor(self, folder: str, name: str, entry: Any) -> Tensor:
        where = f"{self._path}: {name!r:.80}"
        place = entry.get("path_name") if isinstance(entry, dict) else None
        member = self._infos.get(f"{folder}{place}")
        if member is None:
            raise FileError(f"{where} is not in the archive (its member would be {folder}{place!r:.80}).")
        meta = entry.get("tensor_meta")
        if str(place).startswith(("custom_obj_", "opaque_obj_")) or not isinstance(meta, dict | None):
            raise FileError(
                f"{where} is an object that can only be had by unpickling, which could run code, so it is refused. "
                "Export a model whose constants are tensors."
            )
        if entry.get("use_pickle"):
            return self._unpickled(where, member)
        if meta is None:
            raise FileError(f"{where} must say its shape and type, but does not.")
        return self._mapped(where, member, meta)

    def _unpickled(self, where: str, member: zipfile.ZipInfo) -> Tensor:
        try:
            found = torch.load(io.BytesIO(self._archive.read(member)), map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling broken bytes raises nearly every kind there is
            raise FileError(f"{where} is pickled and cannot be read with weights only, so it is refused.") from error
        if not isinstance(found, Tensor):
            raise FileError(f"{where} must be a tensor, but is {type(found).__name__}.")
        return found.detach()

    def _mapped(self, where: str, member: zipfile.ZipInfo, meta: Mapping[str, Any]) -> Tensor:
        dtype = DTYPES.get(meta.get("dtype", -1)) if isinstance(meta.get("dtype"), int) else None
        if dtype is None or meta.get("layout") != 7:
            raise FileError(f"{where} is of an unknown type, or not dense.")
        sizes, strides = ([_whole(part, where) for part in _listed(meta, key, where)] for key in ("sizes", "strides"))
        offset = _whole(meta.get("storage_offset"), where)
        count = member.file_size // dtype.itemsize
        numel = math.prod(sizes)
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=False))
        if len(sizes) != len(strides) or (numel and last >= count) or member.file_size % dtype.itemsize:
            raise FileError(
                f"{where} claims the shape {tuple(sizes)}, which its {member.file_size:,} bytes do not hold."
            )
        if numel > MOST_REPEATED * count:
            raise FileError(f"{where} claims {numel:,} numbers but stores {count:,}, so it is refused.")
        if not numel:
            return torch.empty(sizes, dtype=dtype)
        start = self._start(member)
        raw: np.ndarray[Any, Any] = np.memmap(self._path, np.uint8, "c", start, (member.file_size,))
        if start % dtype.itemsize:  # torch aligns members; some tool has moved this one
            raw = np.array(raw)
        return torch.from_numpy(raw).view(dtype).as_strided(sizes, strides, offset)

    def _start(self, member: zipfile.ZipInfo) -> int:
        """Where the bytes of a stored member begin in the file."""
        with self._path.open("rb") as file:
            file.seek(member.header_offset)
            head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\3\4":
            raise FileError(f"{self._path}: the member {member.filename!r:.80} has no header; the file is damaged.")
        name, extra = struct.unpack("<HH", head[26:])
        start: int = member.header_offset + 30 + name + extra
        if start + member.file_size > self._size:
            raise FileError(f"{self._path}: the member {member.filename!r:.80} ends beyond the file; it is damaged.")
        return start


def _listed(meta: Mapping[str, Any], key: str, where: str) -> list[Any]:
    found = meta.get(key)
    if not isinstance(found, list) or len(found) > 32:
        raise FileError(f"{where} must list its {key}.")
    return found


def _whole(part: Any, where: str) -> int:
    value = part.get("as_int") if isinstance(part, dict) else None
    if type(value) is not int or not 0 <= value < 2**48:
        raise FileError(f"{where} must have lengths and strides that are whole numbers, but has {part!r:.60}.")
    return value
