"""Settings of methods as words, and what the table of methods reads from the code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
from typer.testing import CliRunner

import pellucid
from pellucid.cli import app
from pellucid.cli.catalogue import method_rows, papers
from pellucid.cli.settings import method_with, parse, setting_types, settings_line, type_text
from pellucid.errors import InputError
from pellucid.methods import LRP, IntegratedGradients, Method, Token, methods, register, unregister
from tests.cli.conftest import Ran

pytestmark = pytest.mark.core

Run = Callable[..., Ran]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", int, 5),
        ("5", float, 5.0),
        ("1e-3", float, 1e-3),
        ("yes", bool, True),
        ("False", bool, False),
        ("5", str, "5"),
        ("none", float | None, None),
        ("0.5", float | None, 0.5),
        ("3", int | str, 3),
        ("3", str | int | None, 3),
        ("auto", int | str, "auto"),
        ("2", float | int, 2),
        ("Left", Literal["left", "right"], "left"),
        ("2", Literal[1, 2], 2),
        ("1, 2,3", tuple[int, ...], (1, 2, 3)),
        ("a,b", list[str], ["a", "b"]),
        ("4,5", Sequence[int], (4, 5)),
        ("blur", Any, "blur"),
        ("0.3", Any, 0.3),
        ("None", Any, None),
        ("True", Any, True),
        ("[zero, 0.5, Token(2)]", Any, ["zero", 0.5, Token(2)]),
        ("Token( 103 )", Any, Token(103)),
        ("(1, 2)", Any, "(1, 2)"),
        ("__import__('os')", Any, "__import__('os')"),
    ],
)
def test_words_become_values(text: str, kind: Any, value: object) -> None:
    found = parse(text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("five", int),
        ("5.5", int),
        ("x", float),
        ("maybe", bool),
        ("up", Literal["left"]),
        ("x", int | None),
        ("a,1", tuple[int, ...]),
    ],
)
def test_what_does_not_fit_is_refused(text: str, kind: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the command adds what was expected
        parse(text, kind)


def test_a_method_takes_its_settings() -> None:
    made = method_with("integrated_gradients", ["steps=7", "baseline=blur", "tolerance=0.1", "most-steps=20"])
    assert made == IntegratedGradients(steps=7, baseline="blur", tolerance=0.1, most_steps=20)
    assert method_with("lrp", []) == LRP()


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("stepz=3", "the method 'integrated-gradients' has no setting 'stepz'"),
        ("steps", "takes settings as name=value, not as 'steps'"),
        ("steps=many", "--set steps: expected a whole number, got 'many'"),
        ("quadrature=magic", "expected gauss-legendre or trapezoid or midpoint or left or right, got 'magic'"),
        ("steps=0", "steps as a whole number of 1 or more"),
    ],
)
def test_a_wrong_setting_is_told_with_those_there_are(word: str, problem: str) -> None:
    with pytest.raises(InputError) as refused:
        method_with("integrated-gradients", [word])
    assert problem in str(refused.value)
    if "or more" not in problem:
        assert "Its settings are: steps=50 (a whole number), " in str(refused.value)


def test_a_method_without_settings_says_so() -> None:
    with pytest.raises(InputError, match="It has no settings"):
        method_with("gradient", ["steps=3"])


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_setting_of_every_method_can_be_read(name: str) -> None:
    method = methods()[name]()
    for setting, kind in setting_types(type(method)).items():
        assert type_text(kind)
        default = getattr(method, setting)
        if isinstance(default, bool | int | float | str):
            assert parse(str(default), kind) == default
    assert settings_line(method)


def test_papers_are_read_from_bibtex() -> None:
    text = """@article{one, author = {Kim, {Been} and Other, A.}, title = {A {T}itle, with
    commas}, year = {2018}
    }
    @misc{two, title = "Quoted, once", author = "Ada Lovelace and Bob", year = 1843}"""
    assert papers(text) == (("Kim 2018", "A Title, with commas"), ("Lovelace 1843", "Quoted, once"))
    assert papers("") == ()


def test_every_method_is_in_the_table() -> None:
    rows = method_rows()
    assert {row.name for row in rows} == set(methods())
    for row in rows:
        assert row.papers, row.name
        assert all(who.split()[-1].isdigit() and title for who, title in row.papers), row
    families = [row.family for row in rows]
    assert families == sorted(families, key=families.index), "families stay together"


def test_methods_prints_them_all_narrow_and_wide() -> None:
    for width in (80, 140):
        ran = CliRunner().invoke(app, ["methods"], env={"COLUMNS": str(width), "NO_COLOR": "1"})
        assert ran.exit_code == 0
        lines = ran.output.splitlines()
        assert max(map(len, lines)) <= width
        words = ran.output.split()
        assert all(name in words for name in methods())
    assert "Sundararajan 2017" in " ".join(words)


def test_methods_as_json(pellucid: Run) -> None:
    document = json.loads(pellucid("methods", "--json").out)
    rows = {row["name"]: row for row in document["methods"]}
    assert set(rows) == set(methods())
    found = rows["integrated-gradients"]
    assert found["family"] == "gradient"
    assert found["papers"][0]["paper"] == "Sundararajan 2017"
    steps = next(setting for setting in found["settings"] if setting["name"] == "steps")
    assert (steps["default"], steps["values"]) == ("50", "a whole number")
    assert "path" in steps["meaning"]
    assert "@inproceedings" in found["citation"]


def test_one_method_is_shown_with_its_settings(pellucid: Run) -> None:
    ran = pellucid("methods", "integrated_gradients")
    assert ran.code == 0
    for word in ("steps", "baseline", "a whole number", "Axiomatic", "family: gradient"):
        assert word in ran.out
    assert len(json.loads(pellucid("methods", "lrp", "--json").out)["methods"]) == 1
    ran = pellucid("methods", "magic")
    assert ran.code == 2
    assert ran.err.count("\n") == 1


@dataclass(frozen=True)
class Own(Method):
    """One of a user's own."""

    places: tuple[int, ...] = (1, 2)
    name: ClassVar[str] = "own-one"
    family: ClassVar[Any] = "gradient"
    cost: ClassVar[str] = "nothing"
    advice: ClassVar[str] = "In this test."
    citation: ClassVar[str] = "@misc{me, author={Me, Myself}, year={2020}, title={Mine}}"

    def attribute(self, call: Any, target: Any) -> Any:
        raise NotImplementedError

    def passes(self, call: Any) -> Any:
        raise NotImplementedError


def test_a_users_own_method_is_listed_and_set() -> None:
    register(Own)
    try:
        (row,) = [row for row in method_rows() if row.name == "own-one"]
        assert (row.paper, row.settings) == ("Me 2020", (("places", "(1, 2)", "values with commas between them", ""),))
        assert method_with("own-one", ["places=3,4"]) == Own((3, 4))
    finally:
        unregister("own-one")
    assert pellucid.methods.methods() == methods()
