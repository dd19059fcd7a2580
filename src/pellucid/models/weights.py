"""Reading a checkpoint without running code that it may hold, and fitting it to a module."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pellucid.errors import FileError
from pellucid.models.files import reason, regular_file

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "ema", "model_ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
MOST_INFLATION = 20  # times its size on disk; torch stores tensors uncompressed, so more is a zip bomb


def read_state_dict(path: str | Path, *, trust: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a PyTorch checkpoint, by name.

    The content decides, not the extension. Checkpoints that wrap their tensors (``{"state_dict": ...}``) are unwrapped.

    Args:
        path: the file.
        trust: whether a pickle that runs code may be loaded.

    Raises:
        FileError: the file is missing, corrupt, no checkpoint, or would run code and is not trusted.
    """
    place = regular_file(path)
    try:
        with place.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise FileError(f"{path} must be a readable file, but cannot be read: {reason(error)}.") from error
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _unwrap(_read_pickle(place, trust), place)
    if head[8:9] != b"{":
        raise FileError(
            f"{path} must be a checkpoint (safetensors, or .pt/.pth as torch.save writes it), but starts like neither."
        )
    try:
        return safetensors.torch.load_file(place)
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise FileError(f"{path} is a corrupt or truncated safetensors file: {reason(error)}.") from error


def load_weights(module: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Copy ``state`` into ``module``; both must hold the same names and shapes.

    A prefix that every name bears (``module.`` of DataParallel, ``_orig_mod.`` of compiled models, ``model.``) is taken
    off where the module's own names do not bear it.

    Raises:
        FileError: names or shapes differ; the text lists a few.
    """
    fitted = without_prefix(state, module)
    try:
        module.load_state_dict(fitted, strict=True)
    except RuntimeError as error:
        raise FileError(_mismatch(module, fitted, origin)) from error


def without_prefix(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Return ``state`` without the wrappers' prefixes that ``module``'s names lack; see :func:`load_weights`."""
    names, own = dict(state), list(module.state_dict())
    while names:
        for prefix in PREFIXES:
            if all(name.startswith(prefix) for name in names) and not all(name.startswith(prefix) for name in own):
                names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
                break
        else:
            break
    return names


def classes_in(state: Mapping[str, Tensor], module: nn.Module) -> int | None:
    """Return the outputs of a checkpoint that fits ``module`` but for their number, else None."""
    own = module.state_dict()
    fitted = without_prefix(state, module)
    differing = [(own[name].shape, fitted[name].shape) for name in own if name in fitted]
    differing = [(mine, theirs) for mine, theirs in differing if mine != theirs]
    if not differing or any(not mine or not theirs or mine[1:] != theirs[1:] for mine, theirs in differing):
        return None
    sizes = {(mine[0], theirs[0]) for mine, theirs in differing}
    return sizes.pop()[1] if len(sizes) == 1 else None


def _read_pickle(path: Path, trust: bool) -> Any:
    _refuse_other_archives(path)
    mapped = zipfile.is_zipfile(path)  # then the weights are copied once, into the module, and not held beside it
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # unpickling broken bytes raises nearly every kind there is
        names = _unsafe_names(path, error)
        if names and not trust:
            raise FileError(
                f"{path} is a pickle that would run code when loaded (it names {names}), so it is refused. Save the "
                "state_dict() alone, best as safetensors; or, if you trust it, pass trust=True (--trust)."
            ) from error
        if not trust:
            words = reason(error).rpartition("WeightsUnpickler error:")[2][:200].strip()
            raise FileError(f"{path} is no PyTorch checkpoint, or a damaged one: {words}.") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the trusted code may raise anything
        raise FileError(f"{path} could not be unpickled: {type(error).__name__}: {reason(error)[:300]}.") from error


def _unsafe_names(path: Path, error: Exception) -> str:
    """Return what the pickle would import besides known harmless names, or nothing where it is just broken."""
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # no zip archive, or a broken one: the first error names the first of them
        names = re.findall(r"GLOBAL:? ([\w.]+)", str(error))
    return ", ".join(names[:5])


def _refuse_other_archives(path: Path) -> None:
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileError(f"{path} is no PyTorch checkpoint, or a damaged one: {reason(error)}.") from error
    names = [member.filename for member in members]
    if any(name.endswith("constants.pkl") for name in names) or any("/models/" in name for name in names):
        raise FileError(
            f"{path} is a whole program (TorchScript or torch.export), not a file of weights. Load it by its own name "
            "alone, or save the state_dict() of the module that it was made from."
        )
    if sum(member.file_size for member in members) > MOST_INFLATION * path.stat().st_size + 2**20:
        raise FileError(f"{path} claims to unpack to more than {MOST_INFLATION} times its size, so it is refused.")


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for _ in range(3):
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
            inner = next((content[key] for key in WRAPPERS if key in content), None)
            if inner is not None:
                content = inner
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        found = f"the keys {sorted(map(str, content))[:6]}" if isinstance(content, Mapping) else type(content).__name__
        raise FileError(
            f"{path} must hold a state_dict (names -> tensors), also under 'state_dict', but holds {found}."
        )
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _mismatch(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> str:
    own = module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    parts = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        for what, names in (("missing", missing), ("not in the model", unexpected), ("of another shape", shapes))
        if names
    ]
    return (
        f"{origin} does not fit the model {type(module).__name__} ({'; '.join(parts) or 'values cannot be copied'}). "
        "Check that it was saved from this architecture with this number of classes."
    )
