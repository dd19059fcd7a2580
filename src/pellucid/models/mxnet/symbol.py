"""MXNet's ``-symbol.json``: the graph, in all the dialects that its versions wrote.

The format is nnvm's (``saveload_json.cc``). Settings of a node lie under ``attrs`` (from 1.0), ``attr`` (0.9) or
``param`` (0.8, where ``attr`` holds what users noted).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pellucid.errors import FileError
from pellucid.models.files import read_text
from pellucid.models.graph.nodes import Graph, Node, Ref

MOST_NODES = 10**6
DEEPEST = 8  # loops within loops
AUXILIARY = {"BatchNorm": ("moving_mean", "moving_var"), "BatchNorm_v1": ("moving_mean", "moving_var")}
"""Operators whose states files before 0.9 do not list as inputs."""


def read_symbol(path: str | Path) -> Graph:
    """Return the graph of a ``-symbol.json`` file.

    Raises:
        FileError: the file is missing, no JSON, or no graph that can be run.
    """
    return parse_symbol(read_text(path), origin=str(path))


def parse_symbol(text: str, *, origin: str) -> Graph:
    """The graph from the text of a file; see :func:`read_symbol`."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise FileError(f"{origin} nests too deeply to be an MXNet symbol.") from error
    except ValueError as error:
        raise FileError(f"{origin} must be an MXNet symbol in JSON, but is no JSON: {error}.") from error
    if not isinstance(content, dict) or "nodes" not in content:
        raise FileError(
            f"{origin} must be an MXNet symbol (JSON with 'nodes' and 'heads', as export() and save_checkpoint() write "
            "it), but holds something else."
        )
    return _graph(content, origin, version=_version(content), depth=0)


def _version(content: dict[str, Any]) -> int:
    noted = content.get("attrs")
    entry = noted.get("mxnet_version") if isinstance(noted, dict) else None
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], int):
        return entry[1]
    return 800  # the first version that noted its own is 0.9


def _graph(content: Any, origin: str, *, version: int, depth: int) -> Graph:
    if depth > DEEPEST:
        raise FileError(f"{origin} holds loops within loops, more than {DEEPEST} deep.")
    entries, heads = (content.get(key) if isinstance(content, dict) else None for key in ("nodes", "heads"))
    if not isinstance(entries, list) or not isinstance(heads, list) or not entries or not heads:
        raise FileError(f"{origin} must list 'nodes' and 'heads', but one of them is missing or empty.")
    if len(entries) > MOST_NODES:
        raise FileError(f"{origin} holds {len(entries):,} nodes; at most {MOST_NODES:,} are read.")
    nodes: list[Node] = []
    renumbered: list[int] = []  # states that old files do not list are inserted before the node that has them
    for number, entry in enumerate(entries):
        node = _node(entry, number, renumbered, origin, version, depth)
        states = AUXILIARY.get(node.op, ()) if version < 900 and len(node.inputs) == 3 else ()
        for state in states:
            node = _with_input(node, len(nodes))
            nodes.append(Node("", f"{node.name}_{state}"))
        renumbered.append(len(nodes))
        nodes.append(node)
    return Graph(tuple(nodes), tuple(_ref(head, renumbered, f"{origin}: a head") for head in heads))


def _node(entry: Any, number: int, renumbered: list[int], origin: str, version: int, depth: int) -> Node:
    where = f"{origin}: node {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("op"), str) or not isinstance(entry.get("name"), str):
        raise FileError(f"{where} must be an object with 'op' and 'name' in text, but is not.")
    inputs = entry.get("inputs", [])
    bodies = entry.get("subgraphs", [])
    if not isinstance(inputs, list) or not isinstance(bodies, list):
        raise FileError(f"{where} ({entry['name']!r}) must list its inputs and subgraphs, but does not.")
    refs = tuple(_ref(item, renumbered, f"{where} ({entry['name']!r})") for item in inputs)
    subgraphs = tuple(_graph(body, origin, version=version, depth=depth + 1) for body in bodies)
    op = "" if entry["op"] == "null" else entry["op"]
    settings = _settings(entry, where) if op else {}
    if version < 905 and op in ("argmax", "argmin") and settings.get("axis") == "-1":
        del settings["axis"]  # it then meant all axes
    return Node(op, entry["name"], refs, settings, subgraphs)


def _with_input(node: Node, place: int) -> Node:
    return Node(node.op, node.name, (*node.inputs, (place, 0)), node.attributes, node.subgraphs)


def _ref(item: Any, renumbered: list[int], where: str) -> Ref:
    """A reference ``[node, output]`` or ``[node, output, version]`` to an earlier node."""
    whole = isinstance(item, list) and len(item) in (2, 3) and all(type(part) is int for part in item)
    if not whole or not 0 <= item[0] < len(renumbered) or not 0 <= item[1] < MOST_NODES:
        raise FileError(f"{where} must refer to an output of an earlier node like [3, 0], but refers to {item!r:.60}.")
    return renumbered[item[0]], item[1]


def _settings(entry: dict[str, Any], where: str) -> dict[str, str]:
    """The operator's settings, without the notes that users and optimisers left."""
    settings: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):
        found = entry.get(key) or {}
        if not isinstance(found, dict):
            raise FileError(f"{where} ({entry['name']!r}) must hold its settings as an object, but does not.")
        if key == "attr" and entry.get("param"):
            continue  # in 0.8 they are the users'
        for name, value in found.items():
            if not isinstance(value, str):
                raise FileError(
                    f"{where} ({entry['name']!r}): the setting {name!r} must be text, but is {value!r:.60}."
                )
            settings[name] = value
    return settings
