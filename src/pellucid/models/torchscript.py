"""``model.pt`` of TorchScript: a program, run only where it is trusted."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from pellucid.errors import FileError
from pellucid.models.files import reason, regular_file
from pellucid.models.loaded import LoadedModel
from pellucid.models.spec import Spec

SUFFIXES = (".pt", ".pth", ".pts", ".ts", ".torchscript")


def is_torchscript(path: str | Path) -> bool:
    """Whether a file of this name is there and holds TorchScript: a zip with code."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)


def load_torchscript(spec: Spec) -> LoadedModel:
    """Load ``torchscript:FILE``, with ``trust`` alone; see :func:`pellucid.load_model`.

    Nothing is frozen or optimised, so that every operation is seen.

    Raises:
        FileError: the file is missing or damaged, or is not trusted.
    """
    place = regular_file(spec.name)
    if not is_torchscript(place):
        raise FileError(f"{place} must be a TorchScript file, as torch.jit.save() writes it, but is not.")
    if not spec.trust:
        raise FileError(
            f"{place} is TorchScript: a program of its own, which may read and write files and which nothing can check "
            "before it runs. It is refused unless you trust where it comes from: trust=True (--trust). Better, export "
            "the model from its Python code with torch.export to a .pt2 file."
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)  # that TorchScript is no longer worked on
            load: Any = torch.jit.load
            return LoadedModel(load(place, map_location="cpu"))
    except Exception as error:  # the trusted program may raise anything
        raise FileError(f"{place} could not be loaded: {type(error).__name__}: {reason(error)[:300]}.") from error
