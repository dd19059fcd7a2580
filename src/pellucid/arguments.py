"""What callers may write for a dtype, a device or an amount of memory, made into the thing itself."""

from __future__ import annotations

import torch

from pellucid.errors import InputError

__all__ = ["parse_bytes", "parse_device", "parse_dtype"]


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A floating dtype from itself or its name.

    Raises:
        InputError: not a floating dtype.
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(
            f"Expected dtype as a floating torch.dtype or its name ('float32', 'float64', 'bfloat16'), got {dtype!r}."
        )
    return found


def parse_device(device: torch.device | str | None) -> torch.device | None:
    """A device from itself or its name.

    Raises:
        InputError: no such device.
    """
    if device is None:
        return None
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}). Try device='cpu'."
        ) from error
    return found


def parse_bytes(memory: int | str) -> int:
    """Bytes from a number or text such as "2GB" or "512 MiB".

    Raises:
        InputError: no such amount.
    """
    text = str(memory).strip().lower().replace(" ", "")
    units = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9, "b": 1, "": 1}
    for unit, factor in units.items():
        number = text.removesuffix(unit)
        if text.endswith(unit) and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return int(float(number) * factor)
    raise InputError(
        f"Expected memory as a positive number of bytes or text such as '2GB' or '512MiB', got {memory!r}."
    )
