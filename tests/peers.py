"""Peers that take seconds to import: only when a test needs them."""

from __future__ import annotations

from typing import Any

import pytest


def shap_or_skip() -> Any:
    """The package shap, its loops not compiled: that takes longer than all the tests that use them."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NUMBA_DISABLE_JIT", "1")
        return pytest.importorskip("shap")
