"""Class and layer names."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.errors import TargetError
from pellucid.targets import Logit, Margin, PerSample, Rest, Unit, parse_target, resolve_targets
from pellucid.targets.names import find_class

pytestmark = pytest.mark.core
# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = [
    "tabby, tabby cat",
    "Egyptian cat",
    "crane",
    "maillot",
    "maillot, tank suit",
    "crane",
    "Shih-Tzu",
    "lesser panda, red panda, panda",
    "tiger cat",
]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("tabby", 0),
        ("TABBY", 0),
        ("tabby cat", 0),
        ("Tabby,  Tabby Cat", 0),
        ("tabby, tabby cat", 0),
        (" egyptian   cat ", 1),
        ("tank suit", 4),
        ("shih-tzu", 6),
        ("panda", 7),
    ],
)
def test_finds(name: str, index: int) -> None:
    assert find_class(name, NAMES) == index


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "crane",
            "The class name 'crane' fits 2 classes: 2: crane; 5: crane. Give the index of the one that is meant, for "
            "example 2.",
        ),
        (
            "maillot",
            "The class name 'maillot' fits 2 classes: 3: maillot; 4: maillot, tank suit. Give the index of the one "
            "that is meant, for example 3.",
        ),
        (
            "tabbi",
            "No class is called 'tabbi' among the model's 9 class names. Near matches: 0: tabby, tabby cat.",
        ),
        (
            "cat",
            "No class is called 'cat' among the model's 9 class names. Near matches: 0: tabby, tabby cat; 1: Egyptian "
            "cat; 8: tiger cat.",
        ),
        (
            "zzz",
            "No class is called 'zzz' among the model's 9 class names. They begin with 0: tabby, tabby cat; 1: "
            "Egyptian cat; 2: crane.",
        ),
        (
            "tabby-crane",
            "No class is called 'tabby-crane' among the model's 9 class names. Near matches: 0: tabby, tabby cat; 2: "
            "crane; 5: crane. A sign belongs to the name unless a space stands before it: write 'a - b' for a "
            "difference.",
        ),
        (
            "0.5 tabby",
            "No class is called '0.5 tabby' among the model's 9 class names. Near matches: 0: tabby, tabby cat. A "
            "factor is followed by '*': write '0.5*x'.",
        ),
        (
            "layer1.conv",
            "No class is called 'layer1.conv' among the model's 9 class names. They begin with 0: tabby, tabby cat; 1: "
            "Egyptian cat; 2: crane. A unit of a layer is written 'layer:unit', for example 'layer4.1.conv2:12'.",
        ),
    ],
)
def test_error_texts(name: str, message: str) -> None:
    with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
        find_class(name, NAMES)


def test_long_lists_are_cut() -> None:
    with pytest.raises(TargetError, match=r"fits 9 classes: 0: x; 1: x; 2: x; 3: x; 4: x; 5: x; and 3 more\. Give"):
        find_class("x", ["x"] * 9)


def test_without_names_the_error_says_how_to_give_them() -> None:
    message = (
        "The target names the class 'tabby', but the model comes without class names. Give the class as an integer "
        "index, or give the names with the model: a LoadedModel carries them, and the command line takes --labels FILE."
    )
    with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
        resolve_targets("tabby~rest", 2)
    assert parse_target("tabby~rest") == Rest("tabby"), "parsing alone keeps the name"


@unhurried
@given(st.lists(st.text(max_size=10), min_size=1, max_size=8), st.data())
def test_a_full_name_finds_its_class_or_lists_it(names: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(names) - 1))
    if not names[index].strip():
        return
    spelled = " ".join(names[index].casefold().split())
    others = [i for i, name in enumerate(names) for part in (name, *name.split(",")) if _same(part, spelled)]
    if set(others) == {index}:
        assert find_class(names[index], names) == index
    else:
        with pytest.raises(TargetError, match=f"fits {len(set(others))} classes"):
            find_class(names[index], names)


def _same(part: str, spelled: str) -> bool:
    return " ".join(part.casefold().split()) == spelled


def test_names_are_bound_everywhere() -> None:
    assert parse_target("tabby~tiger cat", class_names=NAMES) == Margin(0, 8)
    assert parse_target("2*tabby - tank suit~rest", class_names=NAMES) == 2 * Logit(0) - Rest(4)
    assert resolve_targets(["tabby", "tank suit"], 2, class_names=NAMES) == PerSample((Logit(0), Logit(4)))
    assert (Logit("tabby") - Unit("a", 3)).bind(NAMES) == Logit(0) - Unit("a", 3)
    with pytest.raises(TargetError, match="cancels to zero"):
        parse_target("tabby - tabby cat", class_names=NAMES)
    with pytest.raises(TargetError, match="against itself"):
        parse_target("tabby ~ tabby cat", class_names=NAMES)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("1", "1 Egyptian cat"),
        ("tabby", "0 tabby"),
        ("0~rest", "0 tabby ~ rest"),
        ("0~8", "0 tabby ~ 8 tiger cat"),
        ("tabby - 0.5*tiger cat", "0 tabby - 0.5 * 8 tiger cat"),
        ("-1", "-1 Egyptian cat"),
        ("99", "99"),
        ("top~rest", "top class ~ rest"),
        ("1@mask", "1 Egyptian cat @ its region"),
        ("1~rest@all", "1 Egyptian cat ~ rest @ all positions"),
        ("1@-1", "1 Egyptian cat @ position -1"),
        ("1@3,5", "1 Egyptian cat @ position (3, 5)"),
        ("layer4.1.conv2:12@3,5", "layer4.1.conv2:12 @ position (3, 5)"),
        ("output", "output"),
    ],
)
def test_labels(text: str, label: str) -> None:
    assert parse_target(text, class_names=NAMES).describe(NAMES) == label


def test_labels_of_samples_and_without_names() -> None:
    target = resolve_targets([1, "0~rest"], 2, class_names=NAMES)
    assert target.describe(NAMES, 0) == "1 Egyptian cat"
    assert target.describe(NAMES, 1) == "0 tabby ~ rest"
    assert target.describe(None) == "1; 0 ~ rest"
    assert str(target) == "[1, 0~rest]"


def test_missing_layers() -> None:
    known = ["", "layer1", "layer4.conv1", "layer4.conv2"]
    parse_target("layer4.conv2:3 - layer1:0 + 5").check_layers(known)
    message = (
        "The target conv2:3 needs the layer 'conv2', but the model has no such module. Near matches: layer4.conv2. "
        "Names are those of model.named_modules(); a class whose name holds a colon must be quoted."
    )
    with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
        parse_target("conv2:3").check_layers(known)
    with pytest.raises(
        TargetError, match=r"'zzz', but the model has no such module\. It has such as: layer1, layer4\.conv1"
    ):
        (Logit(1) - Unit("zzz", 0)).check_layers(known)
