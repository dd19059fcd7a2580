"""Settings of methods as words: ``steps=50`` becomes what the method's field is made for."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.methods import Method

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MANY = "a name, a number, Token(id) or JSON"
_NONE = ("none", "null")


def method_with(name: str, words: Sequence[str]) -> Method:
    """The method with the settings that words give.

    Args:
        name: of the method.
        words: each ``setting=value``.

    Raises:
        InputError: there is no such method or setting, or its value is of another type; lists the settings there are.
    """
    import pellucid

    method: Method = pellucid.methods.method_named(name)
    given: dict[str, object] = {}
    types_of = setting_types(type(method))
    for word in words:
        setting, equals, text = word.partition("=")
        setting = setting.strip().replace("-", "_")
        if not equals or setting not in types_of:
            problem = f"has no setting {setting!r}" if equals else f"takes settings as name=value, not as {word!r}"
            raise InputError(f"--set: the method {method.name!r} {problem}. {settings_line(method)}")
        try:
            given[setting] = parse(text.strip(), types_of[setting])
        except ValueError as error:
            expected = type_text(types_of[setting])
            raise InputError(
                f"--set {setting}: expected {expected}, got {text.strip()!r}. {settings_line(method)}"
            ) from error
    try:
        return method.with_settings(**given)
    except TypeError as error:
        raise InputError(f"--set: {error}. {settings_line(method)}") from error


def setting_types(kind: type[Method]) -> dict[str, Any]:
    """The type of every setting by name; Any where it cannot be told."""
    try:
        hints = typing.get_type_hints(kind)
    except NameError:  # a type that is imported for type checkers only
        hints = {}
    return {item.name: hints.get(item.name, Any) for item in dataclasses.fields(kind)}


def settings_line(method: Method) -> str:
    """ "Its settings are: steps=50 (a whole number), ..."."""
    known = setting_types(type(method))
    parts = [
        f"{item.name}={getattr(method, item.name)} ({type_text(known[item.name])})"
        for item in dataclasses.fields(method)
    ]
    return f"Its settings are: {', '.join(parts)}." if parts else "It has no settings."


def type_text(kind: Any) -> str:
    """What a field may hold, in words."""
    if typing.get_origin(kind) is Literal:
        return " or ".join(str(value) for value in typing.get_args(kind))
    if _is_union(kind):
        texts = list(dict.fromkeys(type_text(part) for part in typing.get_args(kind)))
        return " or ".join(
            [text for text in texts if text != _MANY] or texts
        )  # text names what has no words of its own
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    if kind in names:
        return names[kind]
    if typing.get_origin(kind) in (list, tuple, Sequence):
        return "values with commas between them"
    return _MANY


def parse(text: str, kind: Any) -> Any:
    """The value that ``text`` means for a field of the type ``kind``.

    Raises:
        ValueError: none.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return _one_of(text, parts)
    if _is_union(kind):
        return _first_of(text, parts)
    if kind is type(None):
        return _word(text, dict.fromkeys(_NONE))
    if kind is bool:
        return _word(text, _WORDS)
    if kind is int:
        return int(text)
    if kind is float:
        return float(text)
    if kind is str:
        return text
    if origin in (list, tuple, Sequence):
        items = [parse(part.strip(), parts[0] if parts else Any) for part in text.split(",") if part.strip()]
        return items if origin is list else tuple(items)
    return _free(text)


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _one_of(text: str, values: tuple[Any, ...]) -> Any:
    return _word(text, {str(value).lower(): value for value in values})


def _word(text: str, meanings: dict[str, Any]) -> Any:
    if text.lower() not in meanings:
        raise ValueError(text)
    return meanings[text.lower()]


def _first_of(text: str, kinds: Sequence[Any]) -> Any:
    """The most special type that fits: text, which everything is, comes last."""
    for kind in sorted(kinds, key=lambda kind: (kind is str, kind is float)):
        try:
            return parse(text, kind)
        except ValueError:
            continue
    raise ValueError(text)


def _free(text: str) -> Any:
    """Of a field that takes many things: a token, a number, JSON, a list of such, none, else the word itself.

    Raises:
        ValueError: JSON's braces without its grammar.
    """
    token = re.fullmatch(r"Token\(\s*(\d+)\s*\)", text)
    if token:
        import pellucid

        return pellucid.methods.Token(int(token[1]))
    if text.lower() in _NONE:
        return None
    if text.startswith(("{", "[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            if text.startswith("{"):
                raise ValueError(text) from error
    if text.startswith("[") and text.endswith("]"):
        return [_free(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, int | float | bool) else text
