"""Checks for your own rules and methods, for use in any test runner; each raises AssertionError with what is wrong.

check_restores(model, x, call)     ``call`` leaves model, input, random numbers and settings as they were
check_rule(rule, module, x)        a rule conserves relevance, is linear, repeatable, and changes nothing
check_method(method, model, x)     a method keeps shapes, dtypes and devices, treats samples apart, leaves no trace,
                                   and is all that Pellucid's own methods are
"""

from __future__ import annotations

from pellucid.testing.methods import check_method
from pellucid.testing.restores import check_restores
from pellucid.testing.rules import check_rule

__all__ = ["check_method", "check_restores", "check_rule"]
