"""The errors that Pellucid raises on purpose: each says what was expected, what came, where, and what to do.

PellucidError
├── InputError (also ValueError)         something given by the caller cannot be used
│   ├── TargetError                      the explained scalar is unknown, ambiguous or out of range
│   └── FileError                        a file is missing, unreadable, corrupt, hostile, or cannot be written
├── ModelError                           the model cannot be explained as it is
│   └── UnknownOpError                   an operation on a live path has no rule
└── MissingDependencyError (ImportError) an optional library is needed
Interrupted (KeyboardInterrupt)          Ctrl-C during long work; holds what was done so far
"""

from __future__ import annotations

import importlib
import random
from typing import Any

LONGEST = 8000  # letters of an error's text; what it quotes of a file may be of any length


class PellucidError(Exception):
    """Root of every error raised on purpose."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*(_shortened(part) if isinstance(part, str) else part for part in arguments))


class InputError(PellucidError, ValueError):
    """An argument or input cannot be used."""


class TargetError(InputError):
    """The explained scalar is unknown, ambiguous or out of range."""


class FileError(InputError):
    """A file is missing, unreadable, corrupt, hostile, or cannot be written."""


class ModelError(PellucidError):
    """The model cannot be explained as it is."""


class UnknownOpError(ModelError):
    """An operation on a live path has no rule; a silent plain gradient would be wrong."""


class MissingDependencyError(PellucidError, ImportError):
    """An optional library is needed and not installed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended long work early.

    Args:
        partial: the estimate so far, an Explanation whose warnings say how far it came; where several targets were
            asked for, a list of those that are done and the estimate so far of the next.
    """

    def __init__(self, message: str, partial: Any) -> None:
        super().__init__(message)
        self.partial = partial


def reason(error: Exception) -> str:
    """What an error says, on one line; of one that was not raised on purpose also what it is."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PellucidError) else f"{type(error).__name__}: {text}"


def _shortened(text: str) -> str:
    """``text``, without its middle where it is very long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"


def require(library: str, *, extra: str, caller: str) -> Any:
    """Import ``library`` or say who needs it and how to install it.

    Args:
        library: importable name, dots allowed.
        extra: the extra of this package that brings it.
        caller: what the user called, named in the error.

    Raises:
        MissingDependencyError: the library cannot be imported.
    """
    state = random.getstate()  # libraries draw from it while they are imported
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingDependencyError(
            f"{caller} needs the library {library!r}, which cannot be imported here ({error}). "
            f"Install it with: pip install 'pellucid[{extra}]'"
        ) from error
    finally:
        random.setstate(state)
