"""The ledger's arithmetic, its table, and its dict form."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from pellucid.engine.ledger import SOURCES, Entry, Ledger
from pellucid.errors import InputError
from pellucid.explanation import Explanation

pytestmark = pytest.mark.core

LEDGER = Ledger(
    10.0,
    (
        Entry("bias", "fc", 1.5),
        Entry("input", "x", 7.0),
        Entry("bias", "conv", -0.5),
        Entry("input", "mask", 1.0),
        Entry("stabiliser", "fc", 1e-7),
        Entry("bias", "fc", 0.5),
    ),
)


def test_amounts_are_summed_by_source_in_the_fixed_order_and_end_with_what_is_unaccounted():
    assert list(LEDGER.amounts) == ["input", "bias", "stabiliser", "unaccounted"]
    assert LEDGER.amounts["input"] == LEDGER.inputs == 8.0
    assert LEDGER.amounts["bias"] == 1.5
    assert LEDGER.unaccounted == pytest.approx(0.5 - 1e-7, abs=1e-15)
    assert sum(LEDGER.amounts.values()) == pytest.approx(LEDGER.total, abs=1e-12)


def test_by_layer_keeps_the_sources_of_a_module_apart():
    assert LEDGER.by_layer["fc"] == {"bias": 2.0, "stabiliser": 1e-7}
    assert LEDGER.by_layer["conv"] == {"bias": -0.5}


def test_modules_of_a_source_come_largest_first():
    assert list(LEDGER.modules("bias").items()) == [("fc", 2.0), ("conv", -0.5)]
    assert LEDGER.modules("softmax") == {}


def test_large_entries_that_cancel_lose_no_small_one():
    ledger = Ledger(1.0, (Entry("bias", "a", 1e17), Entry("input", "x", 1.0), Entry("bias", "b", -1e17)))
    assert ledger.unaccounted == 0.0
    assert ledger.closed(0.0)


@pytest.mark.parametrize(
    ("gap", "tolerance", "closed"), [(0.9e-4, 1e-4, True), (1.1e-4, 1e-4, False), (-2e-4, 1e-4, False)]
)
def test_closed_is_relative_to_the_output(gap, tolerance, closed):
    assert Ledger(100.0, (Entry("input", "x", 100.0 * (1 - gap)),)).closed(tolerance) is closed


def test_closed_is_relative_to_the_largest_entry_where_that_exceeds_the_output():
    entries = (Entry("input", "x", 1000.0), Entry("bias", "fc", -1000.0))
    assert Ledger(0.05, entries).closed(1e-4)
    assert not Ledger(0.2, entries).closed(1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_closed_and_prints(bad):
    for ledger in (Ledger(1.0, (Entry("input", "x", bad),)), Ledger(bad, (Entry("input", "x", 1.0),))):
        assert not ledger.closed(1e9)
        assert str(bad).lstrip("-") in str(ledger)
    both = Ledger(1.0, (Entry("input", "x", math.inf), Entry("input", "y", -math.inf)))
    assert math.isnan(both.unaccounted)
    assert "nan" in str(both)


def test_the_table_is_aligned_and_always_shows_what_is_unaccounted():
    lines = str(LEDGER).splitlines()
    assert lines[0].split() == ["source", "modules", "amount", "share"]
    assert [line.split()[0] for line in lines[2:-2]] == ["input", "bias", "stabiliser", "unaccounted"]
    assert lines[-1].split() == ["output", "10.0000", "100.00", "%"]
    assert len({len(line) for line in lines}) == 1
    closed = str(Ledger(2.0, (Entry("input", "x", 2.0),)))
    assert "unaccounted" in closed
    assert "0.00 %" in closed


def test_the_table_names_the_scalar():
    named = replace(LEDGER, scalar="tabby~rest")
    assert str(named).splitlines()[-1].split() == ["output", "tabby~rest", "10.0000", "100.00", "%"]
    assert Ledger.from_dict(json.loads(json.dumps(named.to_dict()))).scalar == "tabby~rest"
    long = str(replace(LEDGER, scalar="a class of\nmany words " * 20)).splitlines()
    assert "..." in long[-1]
    assert max(map(len, long)) < 120
    with pytest.raises(InputError, match="must name its scalar in text; got 3"):
        Ledger.from_dict({"total": 1.0, "entries": [], "scalar": 3})


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (["cat"], "cat"),
        (["cat", "cat"], "cat, summed over 2 samples"),
        (["cat", "dog"], "cat, dog, summed over 2 samples"),
        (list("abcd"), "a, b, c, ..., summed over 4 samples"),
    ],
)
def test_an_explanation_names_the_scalar_of_its_ledger(target, name):
    size = len(target)
    made = Explanation(torch.ones(size, 1), torch.ones(size), tuple(target), "lrp", ledger=LEDGER)
    assert made.ledger.scalar == name
    assert name in str(made.ledger)
    assert made.ledger == LEDGER


def test_many_modules_are_counted_and_the_biggest_named():
    entries = tuple(Entry("bias", f"layer{number}", float(number)) for number in range(30))
    rows = Ledger(1.0, entries).rows()
    assert rows[0][1] == "30 modules, most in layer29"


def test_a_long_module_path_keeps_its_end():
    path = "encoder." * 12 + "final"
    text = str(Ledger(1.0, (Entry("bias", path, 1.0), Entry("bias", "b", 0.1), Entry("bias", "c", 0.1))))
    assert "final" in text
    assert max(map(len, text.splitlines())) < 100


def test_an_output_of_zero_has_no_shares():
    ledger = Ledger(0.0, (Entry("input", "x", 1.0), Entry("bias", "fc", -1.0)))
    assert ledger.closed()
    assert "%" not in str(ledger)


def test_dict_form_is_json_and_comes_back_equal():
    text = json.dumps(LEDGER.to_dict(), allow_nan=False)
    assert Ledger.from_dict(json.loads(text)) == LEDGER


def test_dict_form_holds_what_is_not_finite():
    ledger = Ledger(math.inf, (Entry("input", "x", -math.inf), Entry("bias", "fc", math.nan)))
    back = Ledger.from_dict(json.loads(json.dumps(ledger.to_dict(), allow_nan=False)))
    assert back.total == math.inf
    assert back.entries[0].amount == -math.inf
    assert math.isnan(back.entries[1].amount)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"total": 1.0},
        {"total": 1.0, "entries": {}},
        {"total": "one", "entries": []},
        {"total": True, "entries": []},
        {"total": 1.0, "entries": [1]},
        {"total": 1.0, "entries": [{"source": "magic", "module": "fc", "amount": 1.0}]},
        {"total": 1.0, "entries": [{"source": "bias", "module": 3, "amount": 1.0}]},
        {"total": 1.0, "entries": [{"source": "bias", "module": "fc"}]},
        {"total": 1.0, "entries": [{"source": "bias", "module": "fc", "amount": []}]},
        {"total": 10**400, "entries": []},
    ],
)
def test_a_damaged_dict_is_refused(data):
    with pytest.raises(InputError):
        Ledger.from_dict(data)


def test_unaccounted_in_a_dict_is_not_believed():
    data = LEDGER.to_dict()
    data["unaccounted"] = 0.0
    assert Ledger.from_dict(data).unaccounted == LEDGER.unaccounted


def test_an_unknown_source_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"'input', 'baseline', 'bias'.*got 'magic' at module 'fc'"):
        Entry("magic", "fc", 1.0)
    assert [Entry(source, "m", 1.0).source for source in SOURCES] == list(SOURCES)
