"""The one direction in which modules of the package may import each other, and the reader of the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "pellucid"

# Module or folder (without the package's name) -> what it may import. The longest fitting entry counts.
# "engine" stands for everything in engine/ that has no entry of its own. A folder may always import itself.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "": ("*",),  # pellucid/__init__.py re-exports
    "errors": (),
    "engine.numerics": ("errors",),
    "engine.private": (),
    "engine.ops": ("errors", "engine.numerics", "engine.private"),
    "engine.ledger": ("errors", "engine.numerics"),
    "engine.graph": ("errors", "engine.numerics", "engine.ops", "engine.private"),
    "engine.function": ("errors", "engine", "structures", "outputs", "targets"),  # the model as a function
    "engine.passes": ("errors", "engine", "outputs", "targets"),
    "engine.trace": ("errors", "engine", "structures", "outputs", "targets"),  # one forward, ready for a target
    "engine": ("errors", "engine", "structures"),
    "rules": ("errors", "engine"),
    "selection": ("errors", "engine"),
    "composites": ("errors", "engine", "rules", "selection"),
    "outputs": ("errors",),
    "targets": ("errors", "outputs"),
    "structures": ("errors",),
    "arguments": ("errors",),
    "progress": (),
    "archive": ("errors", "engine.ledger", "engine.numerics", "structures"),
    "explanation": ("errors", "archive", "structures", "engine.ledger", "engine.numerics", "intake", "show"),
    "comparison": ("errors", "archive", "structures", "explanation", "show"),
    "saved": ("errors", "archive", "structures", "engine.ledger", "explanation", "comparison"),
    "show": ("errors", "archive", "structures", "engine.ledger", "engine.numerics", "explanation", "comparison"),
    "intake": ("errors", "structures", "engine.ledger", "explanation"),
    "callables": ("errors", "arguments", "engine.inputs", "outputs", "structures", "targets", "models"),
    "models": ("errors", "engine.private"),
    "data": ("errors", "models"),
    "methods": (
        "errors",
        "engine",
        "rules",
        "selection",
        "composites",
        "outputs",
        "targets",
        "explanation",
        "structures",
        "progress",
    ),
    "flightcheck": ("errors", "engine", "rules", "selection", "composites", "outputs", "targets", "methods", "models"),
    "_api": ("*",),
    "_compare": ("*",),
    "testing": ("*",),
    "cli": ("*",),
    "__main__": ("cli",),
}
# What a star does not reach, and what even a listed folder must not.
NEVER: dict[str, tuple[str, ...]] = {
    "": ("cli", "web"),
    "_api": ("_compare", "cli", "web", "testing"),
    "_compare": ("cli", "web", "testing"),
    "testing": ("cli", "web"),
    "cli": ("engine", "methods", "selection", "flightcheck", "testing", "web"),
    "rules": ("engine.walk",),
}


def imports(source: str, *, module: str) -> Iterator[tuple[int, str]]:
    """(line, imported module of the package, dotted, without the package's name) of every import that runs.

    Imports under ``if TYPE_CHECKING`` serve annotations only and are left out.

    Args:
        source: Python text.
        module: its dotted name, for relative imports.
    """
    tree = ast.parse(source)
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = f"{PACKAGE}.{module}".split(".")[: -node.level] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                yield node.lineno, name.removeprefix(PACKAGE).removeprefix(".")


def inside(name: str, place: str) -> bool:
    """Whether module ``name`` is ``place`` or lies in it."""
    return name == place or name.startswith(f"{place}.")


def _entry(table: dict[str, tuple[str, ...]], module: str) -> str | None:
    fitting = [place for place in table if place == module or (place and inside(module, place))]
    return max(fitting, key=len, default=None)


def wrong(module: str, imported: str) -> bool:
    """Whether ``module`` must not import ``imported`` (both dotted, without the package's name).

    ``imported`` may end in the name of a function or class: ``rules.Epsilon``.
    """
    place = _entry(MAY_IMPORT, module)
    if place is None:
        return True
    if imported == "__version__":
        return False
    if imported == "":  # `import pellucid`: only those on top of the public names may use them
        return not any(inside(module, top) for top in ("cli", "testing", "__main__"))
    never = _entry(NEVER, module)
    if never is not None and any(inside(imported, other) for other in NEVER[never]):
        return True
    own = place.split(".")[0]
    if place == own and place and inside(imported, own):
        return False
    allowed = MAY_IMPORT[place]
    return "*" not in allowed and not any(inside(imported, other) for other in allowed)


def module_name(path: Path, *, root: Path) -> str:
    """The dotted name of a file below the package's folder ``root``, without the package's name."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def violations(root: Path) -> list[str]:
    """One line for every import below ``root`` (the package's folder) that runs against the direction."""
    found = []
    for path in sorted(root.rglob("*.py")):
        module = module_name(path, root=root)
        relative_to = f"{module}.__init__" if path.name == "__init__.py" and module else module or "__init__"
        for line, imported in imports(path.read_text(encoding="utf-8"), module=relative_to):
            if wrong(module, imported):
                found.append(
                    f"{path.relative_to(root)}:{line}: {module or PACKAGE} must not import {imported or PACKAGE}"
                )
    return found
