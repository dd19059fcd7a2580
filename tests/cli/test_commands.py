"""The other commands, help, version, and the options' parsers."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pellucid as pl
from pellucid import __version__
from pellucid.cli import app, catalogue
from pellucid.cli.options import parse_keep
from pellucid.composites import COMPOSITES
from pellucid.errors import InputError
from tests.cli.conftest import MODEL, Ran

pytestmark = pytest.mark.core

Run = Callable[..., Ran]


def test_version(pellucid: Run) -> None:
    assert pellucid("--version") == (0, f"pellucid {__version__}\n", "")


@pytest.mark.parametrize("command", ["", "explain", "compare", "check", "convert", "methods", "rules", "composites"])
def test_help_names_every_option(command: str) -> None:
    ran = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"})
    assert ran.exit_code == 0
    assert "Usage: " in ran.output
    for option in {"explain": ["--target", "--keep", "--json", "--scale"], "": ["--version"]}.get(command, []):
        assert option in ran.output


def test_no_command_shows_the_help(pellucid: Run) -> None:
    ran = pellucid()
    assert ran.code == 2
    assert "explain" in ran.out
    assert ran.err == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("expalin", "demo", "demo"), "explain"),
        (("explain", "demo"), "INPUT"),
        (("explain", "demo", "demo", "--sedd", "1"), "--seed"),
        (("explain", "demo", "demo", "--seed", "one"), "--seed"),
        (("rules", "more"), "more"),
    ],
)
def test_bad_use_is_one_line(pellucid: Run, words: tuple[str, ...], hint: str) -> None:
    ran = pellucid(*words)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert hint in ran.err


def test_rules_lists_every_rule(pellucid: Run) -> None:
    ran = pellucid("rules", "--json")
    rules = {rule["name"]: rule for rule in json.loads(ran.out)["rules"]}
    assert "LinearRule" not in rules  # what the others are made from, no rule by itself
    assert {"Epsilon", "Gamma", "AlphaBeta", "ZPlus", "Box", "Flat", "Pass", "Half", "Gate"} <= set(rules)
    assert {"SignalTakesAll", "Taylor", "layer_norm", "batch_norm", "rms_norm", "winner", "region"} <= set(rules)
    assert {"divide", "fused_attention", "guided_relu", "native_gradient"} <= set(rules)
    assert rules["winner"]["where"] == "max_pool, max"
    assert rules["Gate"]["where"] == "softmax"
    assert "epsilon=1e-06" in rules["Epsilon"]["parameters"]
    assert all(rule["summary"] for rule in rules.values())
    table = pellucid("rules").out
    assert all(name in table for name in rules)


def _is_linear_rule(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, pl.rules.LinearRule)


def test_no_rule_is_left_out() -> None:
    """Every class and function that is a rule of a walk, found in the source, is in the list with where and what."""
    rows = {row.name: row for row in catalogue.rule_rows()}
    found = set()
    for info in pkgutil.iter_modules(pl.rules.__path__, "pellucid.rules."):
        if info.ispkg:
            continue  # DeepLIFT's rules, over two runs
        module = importlib.import_module(info.name)
        own = {name: thing for name, thing in vars(module).items() if getattr(thing, "__module__", "") == info.name}
        for name, thing in own.items():
            call = thing.__dict__.get("__call__") if isinstance(thing, type) else thing
            parameters = [p for p in inspect.signature(call).parameters if p != "self"] if call is not None else []
            is_rule = parameters[1:] == ["densities"] or parameters == ["step", "_"]
            if name[0] != "_" and name != "LinearRule" and (is_rule or _is_linear_rule(thing)):
                found.add(name)
    assert len(found) > 25
    assert found <= set(rows)
    for make in COMPOSITES.values():
        for _, rule in make().rows:
            assert {getattr(rule, "__name__", ""), type(rule).__name__} & set(rows), rule
    for row in rows.values():
        assert row.where, row
        assert len(row.summary) > 20, row


def test_composites_lists_every_composite(pellucid: Run) -> None:
    document = json.loads(pellucid("composites", "--json").out)
    names = [composite["name"] for composite in document["composites"]]
    assert names[0] == "auto"
    assert {"epsilon", "epsilon-plus", "attn-lrp", "cp-lrp", "deep-taylor"} <= set(names)
    table = pellucid("composites").out
    assert all(name in table for name in names)
    assert all(composite["summary"] for composite in document["composites"])
    assert len(names) == len(catalogue.composite_tables())


def test_check_shows_operations_and_their_rules(pellucid: Run, place: Path) -> None:
    ran = pellucid("check", MODEL[0], "photos", *MODEL[1:])
    assert ran.code == 0, ran.err
    assert "convolution" in ran.out
    document = json.loads(pellucid("check", MODEL[0], "photos", *MODEL[1:], "--json").out)
    assert not document["unknown"]


def test_check_of_an_unknown_operation_names_it_and_ends_with_1(pellucid: Run, place: Path) -> None:
    ran = pellucid("check", "python:tiny:Strange", "photos", *MODEL[1:])
    assert ran.code == 1
    assert "Curious" in ran.out
    assert ran.err.count("\n") == 1


def test_keep_collects_units_by_layer() -> None:
    assert parse_keep(["layer3=1,2", "a=b=5", "layer3= 7"]) == {"layer3": [1, 2, 7], "a=b": [5]}
    assert parse_keep(["blocks.0=heads:0,2", "a=1", "blocks.0=head: 3"]) == {"blocks.0": "heads:0,2, 3", "a": [1]}
    assert parse_keep([]) is None


@pytest.mark.parametrize("spec", ["layer3", "=1", "layer3=", "layer3=a", "layer3=1,,2", "layer3=-1", "layer3=heads:"])
def test_keep_refuses(spec: str) -> None:
    with pytest.raises(InputError, match="LAYER=UNIT"):
        parse_keep([spec])


def test_convert_writes_a_program(pellucid: Run, tmp_path: Path) -> None:
    network = Path(__file__).parents[1] / "data" / "mxnet" / "models" / "digits_mlp" / "digits_mlp-symbol.json"
    out = tmp_path / "net.safetensors"
    ran = pellucid("convert", str(network), str(out), "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["files"] == [str(out), str(tmp_path / "net.py")]
    ran = pellucid("convert", str(network), str(out))
    assert (ran.code, ran.out) == (2, "")
    assert "is there already" in ran.err
    ran = pellucid("convert", str(network), str(tmp_path / "net.pt2"))
    assert (ran.code, "--shape 1,3,224,224" in ran.err) == (2, True)
    ran = pellucid("convert", str(network), str(out), "--shape", "2,x")
    assert (ran.code, "whole numbers" in ran.err) == (2, True)
