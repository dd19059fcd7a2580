"""MXNet's settings of a node: everything is text, and every default is the operator's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from pellucid.errors import FileError

T = TypeVar("T")
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|inf|nan)"
_INTEGER = re.compile(r"[-+]?\d{1,18}L?")
_FLOAT = re.compile(_NUMBER)
_MOST_LISTED = 1000


class Attributes:
    """Typed access to the settings of a node.

    Args:
        texts: as the file holds them.
        where: the node in words, for errors.

    Raises:
        FileError: from every reader, where the text is not of the kind that the operator takes.
    """

    def __init__(self, texts: Mapping[str, str], where: str) -> None:
        self._texts = texts
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self.text(key) is not None

    @overload
    def text(self, key: str) -> str | None: ...
    @overload
    def text(self, key: str, default: str) -> str: ...
    def text(self, key: str, default: str | None = None) -> str | None:
        """The bare text; None and absent are the same."""
        found = self._texts.get(key)
        return default if found is None or found.strip() in ("None", "") else found.strip()

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of the words that the operator knows."""
        found = self.text(key, default)
        if found not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return found

    @overload
    def integer(self, key: str) -> int | None: ...
    @overload
    def integer(self, key: str, default: int) -> int: ...
    def integer(self, key: str, default: int | None = None) -> int | None:
        """A whole number."""
        found = self.text(key)
        if found is None:
            return default
        values = self._listed(key, found)
        if len(values) != 1 or values[0] is None:
            raise self.wrong(key, "a whole number")
        return values[0]

    @overload
    def number(self, key: str) -> float | None: ...
    @overload
    def number(self, key: str, default: float) -> float: ...
    def number(self, key: str, default: float | None = None) -> float | None:
        """A number."""
        found = self.text(key)
        if found is None:
            return default
        if not _FLOAT.fullmatch(found):
            raise self.wrong(key, "a number")
        return float(found)

    def flag(self, key: str, default: bool = False) -> bool:
        """A truth value."""
        found = self.text(key)
        if found is None:
            return default
        if found.lower() not in ("true", "false", "1", "0"):
            raise self.wrong(key, "True or False")
        return found.lower() in ("true", "1")

    @overload
    def integers(self, key: str) -> tuple[int, ...] | None: ...
    @overload
    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]: ...
    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        """Whole numbers; a lone one is a tuple of one."""
        values = self.optional_integers(key)
        if values is None:
            return default
        if any(value is None for value in values):
            raise self.wrong(key, "whole numbers")
        return tuple(value for value in values if value is not None)

    def optional_integers(self, key: str) -> tuple[int | None, ...] | None:
        """Whole numbers of which each may be None, as in the bounds of a slice."""
        found = self.text(key)
        return None if found is None else self._listed(key, found)

    def literals(self) -> dict[str, Any]:
        """Every setting as the Python value that it reads as, for operators that users add."""
        return {key: self._literal(key, text.strip()) for key, text in self._texts.items() if not key.startswith("__")}

    def wrong(self, key: str, expected: str) -> FileError:
        """The error for a setting of another kind."""
        return FileError(f"{self.where}: {key} must be {expected}, but is {self._texts.get(key)!r}.")

    def _listed(self, key: str, text: str) -> tuple[int | None, ...]:
        inner = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
        items = [item.strip() for item in inner.split(",")]
        if items and not items[-1]:
            items.pop()  # (2,) and ()
        if len(items) > _MOST_LISTED or any(item != "None" and not _INTEGER.fullmatch(item) for item in items):
            raise self.wrong(key, "whole numbers such as 2 or (2, 2)")
        return tuple(None if item == "None" else int(item.rstrip("L")) for item in items)

    def _literal(self, key: str, text: str) -> Any:
        if text in ("True", "False", "None"):
            return {"True": True, "False": False, "None": None}[text]
        if _INTEGER.fullmatch(text):
            return int(text.rstrip("L"))
        if _FLOAT.fullmatch(text):
            return float(text)
        bracketed = text[:1] + text[-1:] in ("()", "[]")
        try:
            return self._listed(key, text) if bracketed else text
        except FileError:
            return text
