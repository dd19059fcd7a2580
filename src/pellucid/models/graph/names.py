"""Names of a file as names of torch modules."""

from __future__ import annotations

import re
from collections.abc import Container


class Names:
    """Gives every place a name of its own that torch accepts, close to the one in the file.

    Args:
        taken: names that must not be given.
    """

    def __init__(self, taken: Container[str] = ()) -> None:
        self._taken = taken
        self._given: set[str] = set()

    def __call__(self, wanted: str) -> str:
        """A name made of letters, digits and underscores, given never before."""
        name = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_") or "unnamed"
        if name in self._taken:
            name += "_"
        unique, number = name, 1
        while unique in self._given or unique in self._taken:
            unique, number = f"{name}_{number}", number + 1
        self._given.add(unique)
        return unique
