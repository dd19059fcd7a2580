"""The grammar of targets as strings.

    target   = ["-"] term { ("+" | "-") term }           a sign between terms has a space before it
    term     = [ number "*" ] ( scores | unit | "output" )
    scores   = class [ "~" ( class | "rest" ) ] { "@" place }
    unit     = layer ":" index { "@" place }
    class    = index | name | quoted name | "top"
    place    = "mask" | "all" | position, position, ... | "dim" index

A bare name runs up to one of ``~ : * @`` or to a sign with a space before it, so it may hold spaces, commas, hyphens.
A quoted name, in double or single quotes, may hold anything; its own quote is written twice. ``top``, ``rest`` (after
``~``) and ``output`` are words of the grammar: a class of that name is quoted. Bare digits are always an index.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from pellucid.errors import TargetError
from pellucid.targets.base import Target
from pellucid.targets.classes import TOP, Index, Logit, Margin, Place, Rest
from pellucid.targets.names import is_class
from pellucid.targets.single import Output, Unit

_FACTOR = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*\*")
_BARE = re.compile(r"(?:(?!\s+[-+])[^~:*@])+")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"|\'((?:[^\']|\'\')*)\'')
_POSITION = re.compile(r"-?\d+(?:\s*,\s*-?\d+)*")
_DIM = re.compile(r"dim(\d+)")
_DECIMAL = re.compile(r"[0-9]+")


def parse(text: str, *, class_names: Sequence[str] | None = None) -> Target:
    """Read a target; names are kept as they are (``Target.bind`` looks them up).

    Args:
        text: see the module's grammar.
        class_names: only used to refuse the words ``top`` and ``output`` where a class has that name.

    Raises:
        TargetError: the text does not follow the grammar; says where and what was expected.
    """
    return _Parser(text, class_names).target()


class _Parser:
    """Recursive descent over ``text``; ``place`` is where it has got to."""

    def __init__(self, text: str, class_names: Sequence[str] | None) -> None:
        self.text = text
        self.place = 0
        self.class_names = class_names

    def target(self) -> Target:
        total = -self.term() if self.take("-") else self.term()
        while not self.at_end():
            if self.take("-"):
                total = total - self.term()
            elif self.take("+"):
                total = total + self.term()
            else:
                self.fail("'+', '-', '~', '@' or the end")
        return total

    def term(self) -> Target:
        self.skip_space()
        factor = _FACTOR.match(self.text, self.place)
        if factor is None:
            return self.atom()
        self.place = factor.end()
        return float(factor.group().rstrip("* \t\n")) * self.atom()

    def atom(self) -> Target:
        start, (first, bare) = self.mark(), self.word("a class, a layer or a number")
        if self.take(":"):
            return self.unit(first)
        if bare and first.lower() == "output":
            self.refuse_class(first, start)
            return Output()
        index = self.as_class(first, bare, start)
        if not self.take("~"):
            at, dim = self.places()
            return Logit(index, at=at, dim=dim)
        start, (second, bare) = self.mark(), self.word("a class or 'rest'")
        if bare and second.lower() == "rest":
            at, dim = self.places()
            return Rest(index, at=at, dim=dim)
        against = self.as_class(second, bare, start)
        at, dim = self.places()
        return Margin(index, against, at=at, dim=dim)

    def unit(self, layer: str) -> Unit:
        self.skip_space()
        number = _DECIMAL.match(self.text, self.place)
        if number is None:
            self.fail("the index of a unit (a class name that holds ':' must be quoted)")
        self.place = number.end()
        at, dim = self.places()
        return Unit(layer, int(number.group()), at=at, dim=dim)

    def places(self) -> tuple[Place | None, int | None]:
        at: Place | None = None
        dim: int | None = None
        while self.take("@"):
            self.skip_space()
            if dim is None and (match := _DIM.match(self.text, self.place)):
                dim = int(match.group(1))
            elif at is None and (match := _POSITION.match(self.text, self.place)):
                at = tuple(int(part) for part in match.group().split(","))
            elif at is None and (match := re.compile("mask|all").match(self.text, self.place)):
                at = "mask" if match.group() == "mask" else "all"
            else:
                self.fail("one position such as -1 or 3,5, 'mask', 'all', or 'dim1'")
            self.place = match.end()
        return at, dim

    def word(self, expected: str) -> tuple[str, bool]:
        """The next name or number, and whether it stood bare."""
        self.skip_space()
        if self.text[self.place : self.place + 1] in ('"', "'"):
            quote = self.text[self.place]
            quoted = _QUOTED.match(self.text, self.place)
            if quoted is None:
                opened, self.place = self.place + 1, len(self.text)
                self.fail(f"a {quote} that closes the one at character {opened}")
            self.place = quoted.end()
            name = quoted.group()[1:-1].replace(2 * quote, quote)
            if not name.strip():
                raise TargetError(f"Cannot read the target {self.text!r}: the quoted name is empty.")
            return name, False
        bare = _BARE.match(self.text, self.place)
        if bare is None or bare.group()[0] in "+-":
            self.fail(expected)
        self.place = bare.end()
        return bare.group().strip(), True

    def as_class(self, word: str, bare: bool, start: int) -> Index:
        if bare and word.lower() == "top":
            self.refuse_class(word, start)
            return TOP
        if bare and _DECIMAL.fullmatch(word):
            return int(word)
        if bare and re.fullmatch(r"\d*\.\d*", word):
            self.place = start
            self.fail("a class (an index is a whole number, and a factor is followed by '*')")
        return word

    def refuse_class(self, word: str, start: int) -> None:
        if is_class(word, self.class_names):
            raise TargetError(
                f"Cannot read the target {self.text!r}: {word!r} at character {start + 1} is a word of the grammar and "
                f'also the name of a class. Quote the class, "{word}", or give its index.'
            )

    def take(self, sign: str) -> bool:
        self.skip_space()
        found = self.text.startswith(sign, self.place)
        self.place += found
        return found

    def mark(self) -> int:
        self.skip_space()
        return self.place

    def skip_space(self) -> None:
        while self.place < len(self.text) and self.text[self.place].isspace():
            self.place += 1

    def at_end(self) -> bool:
        self.skip_space()
        return self.place >= len(self.text)

    def fail(self, expected: str) -> NoReturn:
        before, after = self.text[: self.place], self.text[self.place : self.place + 20]
        found = f"found {after!r}" if after else "the text ends"
        context = f", after {before!r}," if before else ""
        hint = ""
        if is_class(self.text, self.class_names):
            doubled = self.text.replace('"', '""')
            hint = f' There is a class of that name: quote it, "{doubled}".'
        elif after.startswith("*") and re.search(r"\S[-+]\S*$", before):
            hint = " A sign between terms needs a space before it, else it belongs to the name."
        raise TargetError(
            f"Cannot read the target {self.text!r}: at character {self.place + 1}{context} expected {expected}, but "
            f"{found}.{hint}"
        )
