"""Which rule an operation gets: a table of defaults, overlaid per context and never changed by a run.

register(Op.SILU, my_rule)                        one line gives an operation its rule
register(MyFunction, my_rule)                     and so for a user's own autograd.Function
with overlay({Op.RELU: my_rule}): ...             other rules, in this thread, for this block
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from torch import Tensor
from torch.autograd import Function

from pellucid.engine.ops import NODE_OPS, Op

if TYPE_CHECKING:
    from pellucid.engine.step import Fresh, Relevance, Step

__all__ = ["Key", "RuleFunction", "overlay", "qualified_name", "register", "registered", "rule_for", "unregister"]

Key = Op | str | type[Function]
"""An operation; or an ``autograd.Function``: its class, its qualified name, or the name of its node."""

RuleFunction = Callable[["Step", "list[Tensor | None]"], "Sequence[Tensor | Fresh | Relevance | None]"]
"""``rule(step, densities) -> messages``: one density in per output of the node, one message out per operand."""

_defaults: dict[Op | str, RuleFunction] = {}
_overlay: ContextVar[Mapping[Op | str, RuleFunction]] = ContextVar("pellucid_rules")


def qualified_name(function: type) -> str:
    """``package.module.Class``."""
    return f"{function.__module__}.{function.__qualname__}"


def _plain(key: Key) -> Op | str:
    return qualified_name(key) if isinstance(key, type) and issubclass(key, Function) else key


def register(key: Key, rule: RuleFunction) -> None:
    """Give ``key`` its rule.

    Args:
        key: an :class:`Op`; or a custom ``autograd.Function``: its class, where that cannot be imported its qualified
            name ("package.module.Class"), or the name of its node (the class name + "Backward").
        rule: called as ``rule(step, densities)``.

    Raises:
        TypeError: the key is neither, or the rule cannot be called.
        ValueError: the key has a rule already; use :func:`overlay` to replace it for a while.
    """
    key = _plain(key)
    if not isinstance(key, (Op, str)):
        raise TypeError(
            f"Expected an Op, a class of torch.autograd.Function or the name of an autograd node, got {key!r} "
            f"({type(key).__name__})."
        )
    if not callable(rule):
        raise TypeError(f"Expected a rule for {key} that can be called as rule(step, densities), got {rule!r}.")
    if isinstance(key, str) and key in NODE_OPS:
        raise ValueError(f"The node {key!r} is known as {NODE_OPS[key]}; register the rule for that Op, or overlay it.")
    if key in _defaults:
        raise ValueError(
            f"{key} has a rule already ({_defaults[key]!r}). To replace it for a while: overlay({{key: rule}})."
        )
    _defaults[key] = rule


def unregister(key: str | type[Function]) -> None:
    """Take back the rule of a custom function.

    Raises:
        KeyError: no such rule.
    """
    del _defaults[_plain(key)]


@contextmanager
def overlay(rules: Mapping[Key, RuleFunction]) -> Iterator[None]:
    """Use ``rules`` before the defaults inside the block, in this thread only; overlays stack."""
    token = _overlay.set({**_overlay.get({}), **{_plain(key): rule for key, rule in rules.items()}})
    try:
        yield
    finally:
        _overlay.reset(token)


def rule_for(key: Op | str) -> RuleFunction | None:
    """The rule of ``key``: the overlay's, else the default, else None (unknown)."""
    return _overlay.get({}).get(key) or _defaults.get(key)


def overlaid(key: Op | str) -> RuleFunction | None:
    """The rule that an overlay gives ``key``, if any."""
    return _overlay.get({}).get(key)


def registered() -> dict[Op | str, RuleFunction]:
    """Every default rule, for tables and tests."""
    return dict(_defaults)
