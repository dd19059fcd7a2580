"""Reading files that others made: what is no readable regular file becomes a clear error, not a hang or a trace."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pellucid.errors import FileError

LARGEST_TEXT = 64 * 2**20  # bytes of a labels or settings file


def regular_file(path: str | Path) -> Path:
    """Return ``path`` if it is a readable regular file that is not empty.

    Raises:
        FileError: it is missing, a folder, a pipe or device, unreadable, in a loop of links, or holds zero bytes.
    """
    place = Path(path)
    try:
        status = place.stat()
    except (OSError, ValueError, RuntimeError) as error:
        raise FileError(f"{path} must be a readable file, but cannot be opened: {reason(error)}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{path} must be a file, but is a folder.")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path} must be a regular file, but is a pipe, socket or device.")
    if not os.access(place, os.R_OK):
        raise FileError(f"{path} must be a readable file, but its permissions forbid reading.")
    if status.st_size == 0:
        raise FileError(f"{path} is empty (zero bytes); was it copied completely?")
    return place


def read_text(path: str | Path) -> str:
    """Return the UTF-8 text of a file of modest size, without its byte-order mark.

    Raises:
        FileError: as :func:`regular_file`, or the file is over 64 MiB or no UTF-8.
    """
    place = regular_file(path)
    if place.stat().st_size > LARGEST_TEXT:
        raise FileError(f"{path} must be a small text file, but holds {place.stat().st_size:,} bytes.")
    try:
        return place.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} must be text in UTF-8, but is not: {error}. Save it as UTF-8.") from error
    except OSError as error:
        raise FileError(f"{path} must be a readable file, but cannot be read: {reason(error)}.") from error


def reason(error: BaseException) -> str:
    """Return the operating system's own words where there are some, else the error's text on one line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(words).split()).rstrip(".")
