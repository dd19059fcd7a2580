"""Class names: from what a user types to a class index, and from an index to a label."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pellucid.errors import TargetError

_SHOWN = 6  # how many candidates an error lists before it says "and n more"


def find_class(name: str, names: Sequence[str] | None) -> int:
    """Look up the class that ``name`` means.

    Case and runs of spaces do not matter. Class names are often lists of synonyms ("tabby, tabby cat"): the whole
    name matches, and so does each part between commas. No match is preferred to another, because a name that means
    two things must not silently mean one of them.

    Raises:
        TargetError: there are no class names, no class fits (near matches are listed), or several do (all listed).
    """
    if names is None:
        raise TargetError(
            f"The target names the class {name!r}, but the model comes without class names. Give the class as an "
            "integer index, or give the names with the model: a LoadedModel carries them, and the command line takes "
            "--labels FILE."
        )
    wanted = _fold(name)
    hits = [index for index, full in enumerate(names) if wanted in _spellings(full)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise TargetError(
            f"The class name {name!r} fits {len(hits)} classes: {_listing(hits, names)}. Give the index of the one "
            f"that is meant, for example {hits[0]}."
        )
    near = _near(wanted, names)
    found = f"Near matches: {_listing(near, names)}" if near else f"They begin with {_listing(range(3), names)}"
    raise TargetError(f"No class is called {name!r} among the model's {len(names)} class names. {found}.{_hint(name)}")


def is_class(name: str, names: Sequence[str] | None) -> bool:
    """Whether ``name`` fits at least one class."""
    return names is not None and any(_fold(name) in _spellings(full) for full in names)


def label(index: int, names: Sequence[str] | None) -> str:
    """``285 Egyptian cat``: the index, and the first synonym of the name where there is one."""
    short = names[index].split(",")[0].strip() if names is not None and index < len(names) else ""
    return f"{index} {short}" if short else str(index)


def near_layers(name: str, available: Iterable[str]) -> list[str]:
    """Up to five layer names that look like ``name``, best first."""
    known = [layer for layer in available if layer]
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    # A name with its front or its end left out is the commonest slip: "conv2" for "layer4.1.conv2".
    partial = [layer for layer in known if layer.endswith(f".{name}") or layer.startswith(f"{name}.")]
    return list(dict.fromkeys(close + partial))[:5]


def _fold(name: str) -> str:
    return " ".join(name.casefold().split())


def _spellings(full: str) -> set[str]:
    return {_fold(full), *(_fold(part) for part in full.split(","))} - {""}


def _near(wanted: str, names: Sequence[str]) -> list[int]:
    """Classes with ``wanted`` as a word of their name, then those spelled nearly so."""
    spelled: dict[str, list[int]] = {}
    for index, full in enumerate(names):
        for spelling in sorted(_spellings(full)):
            spelled.setdefault(spelling, []).append(index)
    close = difflib.get_close_matches(wanted, spelled, n=_SHOWN, cutoff=0.6)
    containing = [spelling for spelling in spelled if f" {wanted} " in f" {spelling} "]
    return list(dict.fromkeys(index for spelling in containing + close for index in spelled[spelling]))


def _listing(indices: Sequence[int], names: Sequence[str]) -> str:
    """``285: Egyptian cat; 282: tiger cat``, cut after six."""
    shown = [f"{index}: {names[index]}" for index in indices[:_SHOWN] if index < len(names)]
    more = f"; and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else ""
    return "; ".join(shown) + more


def _hint(name: str) -> str:
    """What may have been meant by a name that no class has."""
    if "-" in name or "+" in name:
        return " A sign belongs to the name unless a space stands before it: write 'a - b' for a difference."
    if name.split()[0].replace(".", "").isdecimal() and " " in name:
        return " A factor is followed by '*': write '0.5*x'."
    if "." in name:
        return " A unit of a layer is written 'layer:unit', for example 'layer4.1.conv2:12'."
    return ""
