"""The source of functions and classes with all that they use of this package, so that it stands alone in a file."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from pellucid.errors import ModelError

PACKAGE = __name__.partition(".")[0]
_COMMON = {("torch", "Tensor"): "Tensor", ("torch", "nn"): "nn", ("torch.nn", "functional"): "F"}
"""What every file imports, and under which name."""


class Sources:
    """Collects definitions and imports.

    Args:
        taken: names that the file uses for something else.
    """

    def __init__(self, taken: set[str]) -> None:
        self.imports: dict[str, None] = {}
        self.definitions: list[str] = []
        self.names = set(taken)
        self._given = dict(_COMMON)
        self._modules: dict[str, dict[str, ast.stmt]] = {}

    def add(self, thing: Any) -> str:
        """Take in a function or class, and return the name that it has in the file.

        Raises:
            ModelError: it is no function or class of a module.
        """
        module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
        if not module or not name.isidentifier() or getattr(sys.modules.get(module), name, None) is not thing:
            raise ModelError(f"{thing!r:.80} is no function or class of a module, so it cannot be written as code.")
        return self._name(module, name)

    def _name(self, module: str, name: str) -> str:
        if (module, name) in self._given:
            return self._given[module, name]
        if module.partition(".")[0] != PACKAGE:
            return self._imported(module, name)
        statement = self._index(module).get(name)
        if isinstance(statement, ast.ImportFrom):
            origin = next(alias.name for alias in statement.names if name == (alias.asname or alias.name))
            self._given[module, name] = self._name(statement.module or "", origin)
            return self._given[module, name]
        if isinstance(statement, ast.Import):
            self.imports[ast.unparse(statement)] = None
            self._given[module, name] = name
            return name
        if statement is None:
            raise ModelError(f"{module}.{name} cannot be written as code.")
        unique = self._unique(name)
        self._given[module, name] = unique
        changed = _Renamed(self, module, name, unique).visit(statement)
        self.definitions.append(ast.unparse(changed))
        return unique

    def _imported(self, module: str, name: str) -> str:
        unique = self._unique(name)
        self.imports[f"from {module} import {name}" + (f" as {unique}" if unique != name else "")] = None
        self._given[module, name] = unique
        return unique

    def _unique(self, name: str) -> str:
        unique, number = name, 2
        while unique in self.names:
            unique, number = f"{name}_{number}", number + 1
        self.names.add(unique)
        return unique

    def _index(self, module: str) -> dict[str, ast.stmt]:
        """The statements of a module of this package by the names that they bind."""
        if module not in self._modules:
            tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))
            index: dict[str, ast.stmt] = {}
            for statement in tree.body:
                if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                    index[statement.name] = statement
                elif isinstance(statement, (ast.Import, ast.ImportFrom)):
                    index |= {alias.asname or alias.name: statement for alias in statement.names}
                elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
                    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                    index |= {target.id: statement for target in targets if isinstance(target, ast.Name)}
            self._modules[module] = index
        return self._modules[module]


class _Renamed(ast.NodeTransformer):
    """Gives the names in a definition those that they have in the file, and takes in what they stand for."""

    def __init__(self, sources: Sources, module: str, own: str, unique: str) -> None:
        self._sources, self._module, self._own, self._unique = sources, module, own, unique
        self._local: list[set[str]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function: its parameters and what it assigns hide the names of the module."""
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        bound = {argument.arg for argument in arguments if argument is not None}
        bound |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        if not self._local and node.name == self._own:
            node.name = self._unique
        self._local.append(bound)
        self.generic_visit(node)
        self._local.pop()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """A class."""
        if node.name == self._own:
            node.name = self._unique
        self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """``module.name`` of a module of this package becomes the name alone."""
        held = getattr(sys.modules[self._module], node.value.id, None) if isinstance(node.value, ast.Name) else None
        if isinstance(held, ModuleType) and held.__name__.partition(".")[0] == PACKAGE:
            return ast.copy_location(ast.Name(self._sources._name(held.__name__, node.attr), node.ctx), node)
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name of the module that is not hidden."""
        if not any(node.id in bound for bound in self._local) and node.id in self._sources._index(self._module):
            node.id = self._unique if node.id == self._own else self._sources._name(self._module, node.id)
        return node
