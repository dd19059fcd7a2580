"""Pellucid explains trained neural networks.

    import pellucid as pl

    model = pl.load_model("demo")                                   # or any torch.nn.Module
    photo = pl.read_input("demo", preprocessing=model.preprocessing)
    explanation = pl.explain(model, photo.x, target="tabby")
    explanation.relevance, explanation.ledger, explanation.plot()

Importing this package loads nothing else; a name is fetched from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid import composites as composites
    from pellucid import errors as errors
    from pellucid import methods as methods
    from pellucid import rules as rules
    from pellucid import targets as targets
    from pellucid import testing as testing
    from pellucid._api import check as check
    from pellucid._api import explain as explain
    from pellucid._compare import compare as compare
    from pellucid.callables import as_function as as_function
    from pellucid.comparison import Comparison as Comparison
    from pellucid.composites import Composite as Composite
    from pellucid.data import Batch as Batch
    from pellucid.data import read_input as read_input
    from pellucid.engine.ledger import Ledger as Ledger
    from pellucid.errors import FileError as FileError
    from pellucid.errors import InputError as InputError
    from pellucid.errors import Interrupted as Interrupted
    from pellucid.errors import MissingDependencyError as MissingDependencyError
    from pellucid.errors import ModelError as ModelError
    from pellucid.errors import PellucidError as PellucidError
    from pellucid.errors import TargetError as TargetError
    from pellucid.errors import UnknownOpError as UnknownOpError
    from pellucid.explanation import Explanation as Explanation
    from pellucid.flightcheck import Check as Check
    from pellucid.models import LoadedModel as LoadedModel
    from pellucid.models import Preprocessing as Preprocessing
    from pellucid.models import load_model as load_model
    from pellucid.models.convert import convert as convert
    from pellucid.saved import load as load
    from pellucid.selection import select as select
    from pellucid.targets import Target as Target

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Check",
    "Comparison",
    "Composite",
    "Explanation",
    "FileError",
    "InputError",
    "Interrupted",
    "Ledger",
    "LoadedModel",
    "MissingDependencyError",
    "ModelError",
    "PellucidError",
    "Preprocessing",
    "Target",
    "TargetError",
    "UnknownOpError",
    "__version__",
    "as_function",
    "check",
    "compare",
    "composites",
    "convert",
    "errors",
    "explain",
    "load",
    "load_model",
    "methods",
    "read_input",
    "rules",
    "select",
    "targets",
    "testing",
]

_HOMES = {
    "Batch": "data",
    "Check": "flightcheck",
    "Comparison": "comparison",
    "Composite": "composites",
    "Explanation": "explanation",
    "FileError": "errors",
    "InputError": "errors",
    "Interrupted": "errors",
    "Ledger": "engine.ledger",
    "LoadedModel": "models",
    "MissingDependencyError": "errors",
    "ModelError": "errors",
    "PellucidError": "errors",
    "Preprocessing": "models",
    "Target": "targets",
    "TargetError": "errors",
    "UnknownOpError": "errors",
    "as_function": "callables",
    "check": "_api",
    "compare": "_compare",
    "convert": "models.convert",
    "explain": "_api",
    "load": "saved",
    "load_model": "models",
    "read_input": "data",
    "select": "selection",
}
_MODULES = frozenset({"composites", "errors", "methods", "rules", "targets", "testing"})


def __getattr__(name: str) -> object:
    """Fetch a public name from its module (PEP 562)."""
    if name in _MODULES:
        return _import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(_import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
