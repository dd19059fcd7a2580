"""The zoo: models of every kind, small and conditioned, that the coverage benchmark explains.

``all_rows()`` lists them; ``prepare(row)`` makes one ready.
"""

from __future__ import annotations

import importlib

from benchmarks.zoo.registry import SETS, Case, Row, call, cast, logits_of, prepare

__all__ = ["SETS", "Case", "Row", "all_rows", "call", "cast", "logits_of", "prepare"]

_MODULES = {
    "torchvision": "torchvision_rows",
    "timm": "timm_rows",
    "transformers": "transformers_rows",
    "rnn": "recurrent_rows",
    "torchscript": "recurrent_rows",
    "export": "recurrent_rows",
}


def all_rows(*, sets: tuple[str, ...] = SETS) -> list[Row]:
    """Every row of the named sets, in the order of the table; each set's library is imported only when asked for."""
    modules = dict.fromkeys(_MODULES[name] for name in sets)
    found = [row for module in modules for row in importlib.import_module(f"benchmarks.zoo.{module}").rows()]
    return [row for row in found if row.set in sets]
