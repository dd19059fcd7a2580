"""Strings to targets and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.errors import TargetError
from pellucid.targets import TOP, Logit, Margin, Output, Rest, Target, Unit, parse_target

pytestmark = pytest.mark.core
# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("285", Logit(285)),
        (" 285 ", Logit(285)),
        ("tabby", Logit("tabby")),
        ("tabby, tabby cat", Logit("tabby, tabby cat")),
        ('"tabby"', Logit("tabby")),
        ("'tabby'", Logit("tabby")),
        ('"285"', Logit("285")),
        ("top", Logit(TOP)),
        ("TOP~Rest", Rest(TOP)),
        ('"top"', Logit("top")),
        ('a~"rest"', Margin("a", "rest")),
        ("rest", Logit("rest")),
        ("285~282", Margin(285, 282)),
        ("Egyptian cat ~ rest", Rest("Egyptian cat")),
        ("flat-coated retriever~Shih-Tzu", Margin("flat-coated retriever", "Shih-Tzu")),
        ("jack-o'-lantern", Logit("jack-o'-lantern")),
        ("C++", Logit("C++")),
        ('"a~b"', Logit("a~b")),
        ('"a - b"~"c*d:e@f"', Margin("a - b", "c*d:e@f")),
        ('"say ""hi"""', Logit('say "hi"')),
        ("'it''s'", Logit("it's")),
        ("0.5*x - y", 0.5 * Logit("x") - Logit("y")),
        ('tabby - 0.5*"tiger cat"', Logit("tabby") - 0.5 * Logit("tiger cat")),
        ('"a"-"b"', Logit("a") - Logit("b")),
        ("x -y +z", Logit("x") - Logit("y") + Logit("z")),
        ("-1", -Logit(1)),
        ("-2e-1 * 3~rest", -0.2 * Rest(3)),
        (".5*x", 0.5 * Logit("x")),
        ("x + x", 2 * Logit("x")),
        ("2*3", 2 * Logit(3)),
        ("15@mask", Logit(15, at="mask")),
        ("15~rest@all", Rest(15, at="all")),
        ("1234@-1", Logit(1234, at=-1)),
        ("a~b@3,5", Margin("a", "b", at=(3, 5))),
        ("15@dim1@mask", Logit(15, at="mask", dim=1)),
        ("15@-1@dim1", Logit(15, at=-1, dim=1)),
        ("layer4.1.conv2:12", Unit("layer4.1.conv2", 12)),
        ("0.2:7@3, 5", Unit("0.2", 7, at=(3, 5))),
        ("output:3", Unit("output", 3)),
        ('"odd~name":12@-1@dim2', Unit("odd~name", 12, at=-1, dim=2)),
        ("a.b:1 - 0.5*a.b:2", Unit("a.b", 1) - 0.5 * Unit("a.b", 2)),
        ("output", Output()),
        ("-output", -Output()),
    ],
)
def test_reads(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


_names = st.text(min_size=1, max_size=12).filter(lambda name: bool(name.strip()))
_classes = st.one_of(st.integers(0, 10**6), _names, st.just(TOP))
_places = st.one_of(st.none(), st.sampled_from(["mask", "all"]), st.lists(st.integers(-99, 99), min_size=1).map(tuple))
_dims = st.one_of(st.none(), st.integers(1, 5))
_terms = st.one_of(
    st.builds(Logit, _classes, at=_places, dim=_dims),
    st.builds(Rest, _classes, at=_places, dim=_dims),
    st.tuples(_classes, _classes, _places, _dims)
    .filter(lambda parts: parts[0] != parts[1])
    .map(lambda parts: Margin(parts[0], parts[1], at=parts[2], dim=parts[3])),
    st.builds(
        Unit,
        _names,
        st.integers(0, 9999),
        at=_places.filter(lambda at: not isinstance(at, str)),
        dim=_dims,
    ),
    st.just(Output()),
)
_factors = st.floats(-1e6, 1e6).filter(lambda factor: factor != 0)


@unhurried
@given(_terms)
def test_every_single_target_reads_back(target: Target) -> None:
    assert parse_target(str(target)) == target


@unhurried
@given(st.lists(st.tuples(_factors, _terms), min_size=1, max_size=4, unique_by=lambda term: term[1]))
def test_every_combination_reads_back(terms: list[tuple[float, Target]]) -> None:
    combination = sum(factor * target for factor, target in terms)
    assert parse_target(str(combination)) == combination


@unhurried
@given(st.text(alphabet="ab1 ~-+*:@\"'.,", max_size=15))
def test_any_text_is_read_or_refused_with_our_own_error(text: str) -> None:
    try:
        target = parse_target(text)
    except TargetError:
        return
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "Cannot read the target '': at character 1 expected a class, a layer or a number, but the text ends.",
        ),
        (
            "tabby ~",
            "Cannot read the target 'tabby ~': at character 8, after 'tabby ~', expected a class or 'rest', but the "
            "text ends.",
        ),
        (
            "2**3",
            "Cannot read the target '2**3': at character 3, after '2*', expected a class, a layer or a number, but "
            "found '*3'.",
        ),
        (
            "a:b",
            "Cannot read the target 'a:b': at character 3, after 'a:', expected the index of a unit (a class name that "
            "holds ':' must be quoted), but found 'b'.",
        ),
        (
            "0.5",
            "Cannot read the target '0.5': at character 1 expected a class (an index is a whole number, and a factor "
            "is followed by '*'), but found '0.5'.",
        ),
        (
            "3 - 'abc",
            'Cannot read the target "3 - \'abc": at character 9, after "3 - \'abc", expected a \' that closes the one '
            "at "
            "character 5, but the text ends.",
        ),
        ("''", "Cannot read the target \"''\": the quoted name is empty."),
        (
            '"5" x',
            "Cannot read the target '\"5\" x': at character 5, after '\"5\" ', expected '+', '-', '~', '@' or the end, "
            "but found 'x'.",
        ),
        (
            "3@foo",
            "Cannot read the target '3@foo': at character 3, after '3@', expected one position such as -1 or 3,5, "
            "'mask', 'all', or 'dim1', but found 'foo'.",
        ),
        (
            "tabby-0.5*x",
            "Cannot read the target 'tabby-0.5*x': at character 10, after 'tabby-0.5', expected '+', '-', '~', '@' or "
            "the end, but found '*x'. A sign between terms needs a space before it, else it belongs to the name.",
        ),
        (
            "3 - 3",
            "The combination of 3 cancels to zero, so there is nothing to explain. Check its factors.",
        ),
        ("3~3", "The target 3~3 sets a class against itself, which is always 0. Name two classes."),
        (
            "conv:3@mask",
            "The target conv:3@mask asks for '@mask', which only a class has. A unit has a position, such as '@-1' or "
            "'@3,5', or is averaged over all positions without one.",
        ),
    ],
)
def test_error_texts(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
        parse_target(text)


def test_places_are_given_once() -> None:
    with pytest.raises(TargetError, match=r"at character 6, after '3@-1@', expected one position"):
        parse_target("3@-1@all")


def test_a_class_called_like_a_word_of_the_grammar_must_be_quoted() -> None:
    names = ["top", "trousers", "output", "rest"]
    with pytest.raises(
        TargetError, match=r"'top' at character 5 is a word of the grammar and also the name of a class"
    ):
        parse_target("1 - top", class_names=names)
    with pytest.raises(TargetError, match=r'Quote the class, "output", or give its index'):
        parse_target("output", class_names=names)
    assert parse_target('"top"', class_names=names) == Logit(0)
    assert parse_target("trousers~rest", class_names=names) == Rest(1)
    assert parse_target('trousers~"rest"', class_names=names) == Margin(1, 3)


def test_a_class_name_that_breaks_the_grammar_is_told_to_be_quoted() -> None:
    with pytest.raises(TargetError, match=r'There is a class of that name: quote it, "a~b~c"\.$'):
        parse_target("a~b~c", class_names=["a~b~c", "x"])
    assert parse_target('"a~b~c"', class_names=["a~b~c", "x"]) == Logit(0)
