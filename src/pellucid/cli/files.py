"""The output folder: checked before any work, and no file of a run written over another of the same run."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pellucid.errors import FileError


class Folder:
    """A folder that can be written.

    Args:
        path: made with its parents if missing.

    Raises:
        FileError: it cannot be made, is no folder, or nothing can be written into it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken: set[str] = set()
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise FileError(
                f"--output expects a folder that can be written, and {str(path)!r} is none: {reason}. Name another."
            ) from error

    def name(self, words: str) -> str:
        """A file's stem made of ``words`` (letters, digits, dots, dashes), new in this run."""
        stem = re.sub(r"[^\w.~+-]+", "-", words).strip("-.")[:100] or "input"
        free = next(
            candidate
            for candidate in (stem, *(f"{stem}-{number}" for number in range(2, len(self._taken) + 3)))
            if candidate.casefold() not in self._taken
        )
        self._taken.add(free.casefold())
        return free
