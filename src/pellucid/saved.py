"""From a .pellucid file back to the result that was saved in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from pellucid.archive import MAX_BYTES, read_archive
from pellucid.comparison import Comparison, Spent
from pellucid.engine.ledger import Ledger
from pellucid.errors import FileError, InputError
from pellucid.explanation import Explanation
from pellucid.structures import named_tensors, unpack

__all__ = ["load"]

Fetch = Callable[[str], Tensor]


def load(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Explanation | Comparison:
    """Read an Explanation or a Comparison that its ``save`` wrote. Executes nothing that is in the file.

    Args:
        path: the .pellucid file.
        max_bytes: larger files are refused unread.

    Raises:
        FileError: the file is missing, unreadable, too large, truncated, corrupt, or of a newer format.
    """
    kind, content, tensors = read_archive(path, kinds=("explanation", "comparison"), max_bytes=max_bytes)
    left = set(tensors)

    def fetch(name: str) -> Tensor:
        if name not in left:
            raise InputError(f"the tensor {name!r} is missing or named twice")
        left.remove(name)
        return tensors[name]

    try:
        result = _explanation(content, fetch) if kind == "explanation" else _comparison(content, fetch)
        if left:
            raise InputError(f"it holds tensors that nothing refers to: {', '.join(sorted(left))[:100]}")
    except InputError as error:
        raise FileError(f"{os.fspath(path)!r} is not a readable {kind}: {error}") from error
    return result


def _explanation(content: Mapping[str, Any], fetch: Fetch, *, prefix: str = "") -> Explanation:
    def tensor(name: str) -> Tensor:
        return fetch(prefix + name)

    ledger = content.get("ledger")
    relevance = unpack("relevance", content.get("relevance"), tensor)
    if not named_tensors(relevance) or not all(
        value.is_floating_point() for value in named_tensors(relevance).values()
    ):
        raise InputError("the relevance is missing or not made of floating point numbers")
    return Explanation(
        relevance=relevance,
        output=tensor("output"),
        target=tuple(_texts(content, "target")),
        method=_typed(content, "method", str),
        settings=_typed(content, "settings", dict),
        citation=_typed(content, "citation", str),
        warnings=tuple(_texts(content, "warnings")),
        input=unpack("input", content.get("input"), tensor),
        ledger=None if ledger is None else Ledger.from_dict(ledger),
        layers={name: tensor(f"layers/{name}") for name in _texts(content, "layers")},
        details={name: tensor(f"details/{name}") for name in _texts({"details": [], **content}, "details")},
        ledgers=tuple(Ledger.from_dict(each) for each in _typed({"ledgers": [], **content}, "ledgers", list)),
    )


def _comparison(content: Mapping[str, Any], fetch: Fetch) -> Comparison:
    explanations: dict[str, Explanation] = {}
    costs: dict[str, Spent] = {}
    for number, item in enumerate(_typed(content, "explanations", list)):
        if not isinstance(item, dict):
            raise InputError("the field 'explanations' must be a list of dicts")
        label = _typed(item, "label", str)
        explanations[label] = _explanation(_typed(item, "fields", dict), fetch, prefix=f"{number}/")
        costs[label] = _spent(_typed(item, "cost", dict))
    shared = next((one.input for one in explanations.values() if one.input is not None), None)
    if shared is not None:  # kept once in the file, as all have the same
        explanations = {label: replace(one, input=shared) for label, one in explanations.items()}
    left_out = _typed(content, "left_out", dict)
    if not all(isinstance(reason, str) for reason in left_out.values()):
        raise InputError("the field 'left_out' must hold text by method")
    return Comparison(explanations, costs, left_out, tuple(_texts(content, "warnings")))


def _spent(content: Mapping[str, Any]) -> Spent:
    counts = [content.get(name) for name in ("forwards", "gradients")]
    seconds = content.get("seconds")
    if not all(count is None or type(count) is int for count in counts) or not isinstance(seconds, int | float):
        raise InputError("a cost must be made of numbers")
    return Spent(float(seconds), *counts)


def _typed(content: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(content.get(name), kind):
        raise InputError(f"the field {name!r} is missing or not of type {kind.__name__}")
    return content[name]


def _texts(content: Mapping[str, Any], name: str) -> list[str]:
    values: list[str] = _typed(content, name, list)
    if not all(isinstance(value, str) for value in values):
        raise InputError(f"the field {name!r} must be a list of text")
    return values
