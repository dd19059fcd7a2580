"""The grammar of model specifications: ``PREFIX:NAME?OPTION=VALUE&OPTION=VALUE``."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pellucid.errors import InputError

GRAMMAR = (
    "demo | torchvision:NAME[?weights=FILE|none|DEFAULT][&classes=N] | timm:NAME[?weights=...][&classes=N] | "
    "hf:FOLDER_OR_HUB_NAME | python:package.module:factory"
)
OPTIONS = ("weights", "classes")


@dataclass(frozen=True)
class Spec:
    """A parsed specification, with what the loader may do.

    Args:
        text: as it was given.
        prefix: which loader.
        name: the part after the prefix, without the options.
        weights: a file, ``none`` (random), a name of the library's own (``DEFAULT``), or None where not given.
        classes: the number of outputs to build, where given.
        trust: whether a pickle, or code that comes with a hub model, may run.
    """

    text: str
    prefix: str
    name: str
    weights: str | None = None
    classes: int | None = None
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
    known = tuple(prefixes)
    prefix, colon, rest = text.partition(":")
    if prefix not in known and prefix.partition("?")[0] not in known:
        raise InputError(
            f"{text!r} is no known kind of model{did_you_mean(prefix, known)}. A model is named as {GRAMMAR}."
        )
    if not colon:
        prefix, _, rest = text.partition("?")
        rest = f"?{rest}" if rest else ""
    name, question, options = rest.partition("?") if prefix in ("torchvision", "timm", "demo") else (rest, "", "")
    weights: str | None = None
    classes: int | None = None
    # A file name may hold an ampersand, so only one that starts another option divides.
    for option in re.split(rf"&(?=(?:{'|'.join(OPTIONS)})=)", options) if question else ():
        key, _, value = option.partition("=")
        if key == "weights" and value:
            weights = os.path.expanduser(value)  # shells do so only at the start of a word
        elif key == "classes" and value.isascii() and value.isdigit() and 0 < int(value) < 10**7:
            classes = int(value)
        else:
            raise InputError(
                f"{text!r}: the option {option!r} is not understood{did_you_mean(key, OPTIONS)}. "
                f"A model is named as {GRAMMAR}."
            )
    if bool(name) == (prefix == "demo"):
        expected = "stands alone" if prefix == "demo" else "needs a name after the colon"
        raise InputError(f"{text!r}: {prefix} {expected}. A model is named as {GRAMMAR}.")
    return Spec(text, prefix, name, weights, classes, trust)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean a, b?)"`` with near matches of ``word``, or nothing."""
    lowered = {choice.lower(): choice for choice in choices}
    near = [choice for lower, choice in lowered.items() if len(word) > 2 and lower.startswith(word.lower())][:4]
    near = near or [lowered[match] for match in difflib.get_close_matches(word.lower(), lowered, n=4, cutoff=0.6)]
    return f" (did you mean {', '.join(near)}?)" if near else ""
