"""The .pellucid file: tensors in the safetensors format, all else as JSON in its metadata, a format version on top.

Nothing in such a file is ever executed. Reading checks the size before the content, the container before the JSON, and
leaves the meaning of the fields to the caller.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pellucid.errors import FileError, InputError

FORMAT_VERSION = 1
MAX_BYTES = 4 * 2**30
"""The largest file that is read unless the caller raises the limit."""
MAX_HEADER_BYTES = 64 * 2**20


def write_archive(
    path: str | os.PathLike[str], *, kind: str, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write one file; an existing one is replaced in one step, so a failure never leaves half a file.

    Args:
        path: where to; the folder must exist.
        kind: what the file holds ("explanation"), checked when it is read.
        fields: JSON-able.
        tensors: by name; views and shared storage are copied.

    Raises:
        InputError: ``fields`` cannot be written as JSON, or a tensor has a type that the format lacks.
        FileError: the file cannot be written.
    """
    path = Path(path)
    try:
        text = json.dumps({"kind": kind, "fields": fields})
        text.encode()
        plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        data = safetensors.torch.save(
            plain, {"format": "pellucid", "format_version": str(FORMAT_VERSION), "json": text}
        )
    except (TypeError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"the {kind} cannot be saved: {error}. Settings must be made of dicts, lists, text, numbers and None; "
            "tensors must be dense and of a type that safetensors knows."
        ) from error
    replace_file(path, data)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one step, so that a failure leaves what was there.

    Raises:
        FileError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name[:40]}-{uuid.uuid4().hex}.part")
    try:
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot write {str(path)!r}: {error.strerror or error}. Give a path in an existing folder that you may "
            "write to."
        ) from error


def read_archive(
    path: str | os.PathLike[str], *, kinds: Collection[str], max_bytes: int = MAX_BYTES
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The kind, fields and tensors of a file that :func:`write_archive` wrote.

    Args:
        path: the file.
        kinds: what it may hold.
        max_bytes: larger files are refused unread.

    Raises:
        FileError: the file is missing, unreadable, too large, truncated, not of this format, of a newer version, or of
            a kind that was not asked for.
    """
    path = Path(path)
    data = _read_bytes(path, max_bytes)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise FileError(f"{str(path)!r} is not a .pellucid file, or it is truncated ({len(data)} bytes).")
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + length])["__metadata__"]
        if header.get("format") != "pellucid":
            raise ValueError("its metadata does not name the format 'pellucid'")
        version = int(header["format_version"])
        if version > FORMAT_VERSION:
            raise FileError(
                f"{str(path)!r} has format version {version}; this Pellucid reads versions up to {FORMAT_VERSION}. "
                "Install a newer Pellucid to read it."
            )
        content = json.loads(header["json"])
        found, fields = content["kind"], content["fields"]
        if version < 1 or not isinstance(fields, dict) or not isinstance(found, str):
            raise ValueError("its metadata has the wrong form")
    except FileError:
        raise
    # RecursionError: JSON nested thousands deep. The others are what a damaged container or metadata gives.
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError) as error:
        reason = str(error) if str(error) else type(error).__name__
        raise FileError(f"{str(path)!r} is not a readable .pellucid file: {reason[:200]}.") from error
    if found not in kinds:
        raise FileError(
            f"{str(path)!r} holds the kind {found[:40]!r}; expected {' or '.join(map(repr, sorted(kinds)))}."
        )
    return found, fields, tensors


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.exists():
            raise FileError(f"there is no file {str(path)!r}.")
        if not path.is_file():
            raise FileError(f"{str(path)!r} is not a file.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise FileError(
                    f"{str(path)!r} has {size} bytes; files above {max_bytes} bytes are not read. "
                    "Raise max_bytes if you trust it."
                )
            return file.read(max_bytes)
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror or error}.") from error
    # A path that holds a null byte.
    except ValueError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot read {str(path)!r}: {error}.") from error
