"""The grammar of model specifications: ``PREFIX:NAME?OPTION=VALUE&OPTION=VALUE``."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.errors import InputError

GRAMMAR = (
    "demo | torchvision:NAME[?weights=FILE|none|DEFAULT][&classes=N] | timm:NAME[?weights=...][&classes=N] | "
    "hf:FOLDER_OR_HUB_NAME | python:package.module:factory[?weights=FILE] | NAME-symbol.json (MXNet) | "
    "mxnet:FILE[?params=FILE][&outputs=NODE,NODE] | FILE.onnx | onnx:FILE[?outputs=NAME,NAME] | "
    "FILE.pt2 (torch.export) | FILE.pt (TorchScript, trusted)"
)
LONGEST = 4096  # as paths of files
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "demo": ("weights", "classes"),
    "torchvision": ("weights", "classes"),
    "timm": ("weights", "classes"),
    "python": ("weights",),
    "mxnet": ("params", "outputs"),
    "onnx": ("outputs",),
    "pt2": ("outputs",),
}
"""Which options each prefix takes; the names of the others may hold question marks."""


@dataclass(frozen=True)
class Spec:
    """A parsed specification, with what the loader may do.

    Args:
        text: as it was given.
        prefix: which loader.
        name: the part after the prefix, without the options.
        weights: a file, ``none`` (random), a name of the library's own (``DEFAULT``), or None where not given.
        classes: the number of outputs to build, where given.
        params: the file with the weights of a graph, where given.
        outputs: nodes whose results are the outputs, in place of the file's own.
        trust: whether a pickle, or code that comes with a hub model, may run.
    """

    text: str
    prefix: str
    name: str
    weights: str | None = None
    classes: int | None = None
    params: str | None = None
    outputs: tuple[str, ...] = ()
    trust: bool = False

    @property
    def random(self) -> bool:
        """Whether random weights were asked for."""
        return self.weights is not None and self.weights.lower() == "none"

    def without_options(self) -> None:
        """Raise where options were given to a loader that has none."""
        if self.weights is not None or self.classes is not None:
            raise InputError(f"{self.text!r}: {self.prefix} takes no ?options. A model is named as {GRAMMAR}.")


def parse_spec(text: str, prefixes: Iterable[str], *, trust: bool = False) -> Spec:
    """Split a specification.

    Raises:
        InputError: unknown prefix or option, or no name; the text gives the grammar and near matches.
    """
    if len(text) > LONGEST:
        raise InputError(
            f"a model is named in at most {LONGEST:,} letters, as {GRAMMAR}, but got {len(text):,} letters."
        )
    known = tuple(prefixes)
    prefix, colon, rest = text.partition(":")
    if prefix not in known and prefix.partition("?")[0] not in known:
        raise InputError(
            f"{text!r} is no known kind of model{did_you_mean(prefix, known)}. A model is named as {GRAMMAR}."
        )
    if not colon:
        prefix, _, rest = text.partition("?")
        rest = f"?{rest}" if rest else ""
    allowed = OPTIONS.get(prefix, ())
    # A file name may hold question marks and ampersands, so only one that starts an option divides.
    file_named = prefix not in ("demo", "torchvision", "timm")
    start = rf"\?(?=(?:{'|'.join(allowed)})=)" if file_named else r"\?"
    name, *options = re.split(start, rest, maxsplit=1) if allowed else [rest]
    given: dict[str, Any] = {}
    for option in re.split(rf"&(?=(?:{'|'.join(allowed)})=)", options[0]) if options else ():
        key, _, value = option.partition("=")
        if key in allowed and key in ("weights", "params") and value:
            given[key] = os.path.expanduser(value)  # shells do so only at the start of a word
        elif key in allowed and key == "classes" and value.isascii() and value.isdigit() and 0 < int(value) < 10**7:
            given[key] = int(value)
        elif key in allowed and key == "outputs" and value:
            given[key] = tuple(part.strip() for part in value.split(",") if part.strip())
        else:
            raise InputError(
                f"{text!r}: the option {option!r} is not understood{did_you_mean(key, allowed)}. "
                f"A model is named as {GRAMMAR}."
            )
    if bool(name) == (prefix == "demo"):
        expected = "stands alone" if prefix == "demo" else "needs a name after the colon"
        raise InputError(f"{text!r}: {prefix} {expected}. A model is named as {GRAMMAR}.")
    return Spec(text, prefix, os.path.expanduser(name) if file_named else name, trust=trust, **given)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean a, b?)"`` with near matches of ``word``, or nothing."""
    lowered = {choice.lower(): choice for choice in choices}
    near = [choice for lower, choice in lowered.items() if len(word) > 2 and lower.startswith(word.lower())][:4]
    near = near or [lowered[match] for match in difflib.get_close_matches(word.lower(), lowered, n=4, cutoff=0.6)]
    return f" (did you mean {', '.join(near)}?)" if near else ""
