"""Names of a file as names of torch modules."""

from __future__ import annotations

import re
from collections.abc import Container


class Names:
    """Gives every place a name of its own that torch accepts, close to the one in the file.

    Args:
        taken: names that must not be given.
        nested: dots in names stay, as paths of modules in modules.
    """

    def __init__(self, taken: Container[str] = (), *, nested: bool = False) -> None:
        self._taken = taken
        self._parted = r"[^\w.]+" if nested else r"\W+"
        self._given: set[str] = set()

    def __call__(self, wanted: str) -> str:
        """A name made of letters, digits and underscores, given never before."""
        parts = [part for part in re.sub(self._parted, "_", wanted, flags=re.ASCII).strip("_").split(".") if part]
        name = ".".join(f"{part}_" if part in self._taken else part for part in parts) or "unnamed"
        unique, number = name, 1
        while unique in self._given or unique in self._taken:
            unique, number = f"{name}_{number}", number + 1
        self._given.add(unique)
        return unique
