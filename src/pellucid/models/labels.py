"""Class names: the 1000 of ImageNet, or a file of the user's."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pellucid.errors import FileError, InputError
from pellucid.models.files import read_text

MOST_CLASSES = 10**6


@functools.cache
def imagenet_names() -> tuple[str, ...]:
    """Return the 1000 ImageNet class names in index order, WordNet's synonyms divided by commas."""
    text = resources.files("pellucid.models").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def full_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return WordNet's full names where ``names`` are the 1000 of ImageNet in a short form, else ``names``."""
    full = imagenet_names()
    agreeing = sum(
        short.lower() in {synonym.strip().lower() for synonym in long.split(",")}
        for short, long in zip(names, full, strict=False)
    )
    return full if len(names) == len(full) and agreeing >= 990 else tuple(names)


def read_labels(labels: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Return class names from a file or a sequence.

    The file holds one name a line, or a JSON list of names, or a JSON object from index to name.

    Raises:
        FileError: the file is unreadable, or its content is none of these.
        InputError: a sequence holds something else than names.
    """
    if not isinstance(labels, (str, Path)):
        return _checked(labels, "labels", InputError)
    text = read_text(labels)
    if text.lstrip()[:1] not in ("[", "{"):
        lines = [line.strip() for line in text.splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        return _checked(lines, str(labels), FileError)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{labels} starts like JSON but cannot be read as such: {error}.") from error
    if isinstance(content, dict):
        content = _by_index(content, labels)
    return _checked(content, str(labels), FileError)


def _by_index(content: dict[str, object], path: str | Path) -> list[object]:
    try:
        indexed = {int(index): name for index, name in content.items()}
    except ValueError as error:
        raise FileError(f'{path} must map class indices to names, {{"0": "tench", ...}}, but: {error}.') from error
    if sorted(indexed) != list(range(len(content))):
        raise FileError(f"{path} must name every class from 0 to {len(content) - 1} once, but holds other indices.")
    return [indexed[index] for index in range(len(content))]


def _checked(names: Sequence[object], origin: str, kind: type[InputError]) -> tuple[str, ...]:
    if not 0 < len(names) <= MOST_CLASSES:
        raise kind(f"{origin} must hold from 1 to {MOST_CLASSES:,} class names, but holds {len(names):,}.")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise kind(f"{origin} must hold one name for each class, but class {index} is {name!r}.")
    return tuple(str(name) for name in names)
