"""What a comparison holds, how it measures agreement, and its file."""

from __future__ import annotations

import copy
import json
import pickle
from itertools import pairwise

import pytest
import torch

from pellucid.comparison import Comparison, Spent, seconds_text
from pellucid.errors import FileError, InputError
from pellucid.explanation import Explanation
from pellucid.saved import load

pytestmark = pytest.mark.core


def of(*maps, **fields):
    """A comparison of methods "a", "b", ... with the relevance given."""
    names = "abcdefgh"[: len(maps)]
    explanations = {
        name: Explanation(
            relevance=relevance,
            output=torch.tensor(
                [2.0] * len(next(iter(relevance.values())) if isinstance(relevance, dict) else relevance)
            ),
            target=("tabby",) * len(next(iter(relevance.values())) if isinstance(relevance, dict) else relevance),
            method=name,
            **fields,
        )
        for name, relevance in zip(names, maps, strict=True)
    }
    return Comparison(explanations, {name: Spent(0.5, 1, 2) for name in names}, {"z": "no such layer"})


def ranks_by_sorting(row):
    """Mean ranks, the slow way."""
    values = row.tolist()
    return torch.tensor(
        [sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values],
        dtype=torch.float64,
    )


def test_agreement_is_spearmans_correlation_of_the_pooled_maps():
    torch.manual_seed(0)
    maps = [torch.randn(3, 2, 4, 5).round(decimals=1) for _ in range(3)]  # rounded, so that there are ties
    found = of(*maps).agreement()
    for i in range(3):
        for j in range(3):
            expected = [
                torch.corrcoef(torch.stack([ranks_by_sorting(maps[k][n].sum(0).flatten()) for k in (i, j)]))[0, 1]
                for n in range(3)
            ]
            assert found[i, j] == pytest.approx(float(sum(expected)) / 3, abs=1e-12)


def test_agreement_sees_order_only_and_opposites():
    row = torch.tensor([[1.0, 5.0, 2.0, -3.0]])
    found = of(row, row.exp(), -row).agreement()
    assert found[0].tolist() == pytest.approx([1, 1, -1])


def test_pooling_changes_what_agrees():
    one = torch.tensor([[[[1.0, -2.0]], [[0.0, 0.0]]]])
    other = -one
    assert of(one, other).agreement()[0, 1] == pytest.approx(-1)
    assert of(one, other).agreement("abs")[0, 1] == pytest.approx(1)


def test_maps_that_cannot_be_ranked_have_no_agreement():
    good, constant, lost = torch.arange(4.0)[None], torch.ones(1, 4), torch.tensor([[1.0, float("nan"), 2.0, 3.0]])
    found = of(good, constant, lost, good[:, :3]).agreement()
    assert found[0, 0] == pytest.approx(1)
    assert bool(found[0, 1:].isnan().all())
    assert of(good, lost).to_dict()["agreement"] == [[1.0, None], [None, None]]


def test_the_mean_leaves_out_samples_without_agreement():
    one = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    assert of(one, one).agreement()[0, 1] == pytest.approx(1)


def test_inputs_that_all_explain_are_compared_together():
    one = {"x": torch.arange(3.0)[None], "y": torch.zeros(1, 2)}
    other = {"x": torch.arange(3.0)[None]}
    assert of(one, other).agreement()[0, 1] == pytest.approx(1)


def test_overlap_counts_common_places():
    a = torch.arange(20.0)[None]
    b = a.clone()
    b[0, 19], b[0, 0] = 0.0, 19.0  # of the two highest one is the same
    assert of(a, b).overlap()[0, 1] == pytest.approx(0.5)
    assert of(a, b).overlap(0.5)[0, 1] == pytest.approx(0.9)
    assert of(a, a).overlap()[0, 1] == pytest.approx(1)
    assert of(a, -a).overlap()[0, 1] == 0


def test_ties_at_the_border_count_in_parts():
    flat = torch.zeros(1, 20)
    sharp = torch.arange(20.0)[None]
    assert of(flat, sharp).overlap()[0, 1] == pytest.approx(0.1)  # chance
    assert of(flat, flat).overlap()[0, 1] == pytest.approx(1)
    with pytest.raises(InputError, match="part must be a share between 0 and 1"):
        of(flat).overlap(1.0)


def test_it_is_a_mapping_of_explanations_that_does_not_change():
    comparison = of(torch.ones(2, 3), torch.zeros(2, 3))
    assert list(comparison) == ["a", "b"] == list(comparison.methods)
    assert len(comparison) == 2
    assert comparison["b"].method == "b"
    assert comparison.target == ("tabby", "tabby")
    assert comparison.sample(1).output.tolist() == [2.0]
    with pytest.raises(InputError, match="z was left out: no such layer"):
        comparison["z"]
    with pytest.raises(InputError, match="no sample 2 in a comparison of 2 samples"):
        comparison.sample(2)
    with pytest.raises(TypeError):
        comparison.explanations["c"] = comparison["a"]  # type: ignore[index]
    for other in (copy.copy(comparison), pickle.loads(pickle.dumps(comparison))):
        assert list(other) == ["a", "b"]
        assert other.left_out == {"z": "no such layer"}


def test_what_does_not_belong_together_is_refused():
    one = of(torch.ones(2, 3))["a"]
    with pytest.raises(InputError, match="at least one explanation"):
        Comparison({}, {})
    with pytest.raises(InputError, match="of the same samples"):
        Comparison({"a": one, "b": one[0]}, {"a": Spent(1), "b": Spent(1)})
    with pytest.raises(InputError, match=r"costs must be given for \['a'\]; got them for \[\]"):
        Comparison({"a": one}, {})


def test_prints_costs_and_agreement():
    text = str(of(torch.arange(3.0)[None], -torch.arange(3.0)[None]))
    assert "0.50 s, 1 forward, 2 gradients" in text
    assert "-1.00" in text
    assert "left out: z: no such layer" in text
    assert "a, b; left out: z" in repr(of(torch.ones(1, 2), torch.ones(1, 2)))
    json.dumps(of(torch.ones(1, 2)).to_dict(), allow_nan=False)


def test_durations_read_well():
    shown = {0.0123: "0.012 s", 2.345: "2.35 s", 61.2: "61 s", 125.7: "2 min 5 s"}
    assert {value: seconds_text(value) for value in shown} == shown
    assert str(Spent(1.0, None, 12345)) == "1.00 s, 12 345 gradients"


def test_its_file_comes_back(tmp_path):
    x = torch.randn(2, 3)
    comparison = of(torch.randn(2, 3), torch.randn(2, 3), input=x, layers={"fc": torch.ones(2, 4)})
    comparison.save(tmp_path / "c.pellucid")
    back = load(tmp_path / "c.pellucid")
    assert isinstance(back, Comparison)
    assert list(back) == ["a", "b"]
    for name in back:
        assert torch.equal(back[name].relevance, comparison[name].relevance)
        assert torch.equal(back[name].layers["fc"], torch.ones(2, 4))
        assert back[name].input is None
        assert back.costs[name] == comparison.costs[name]
    assert back.left_out == comparison.left_out
    comparison.save(tmp_path / "d.pellucid", input=True)
    back = load(tmp_path / "d.pellucid")
    assert all(torch.equal(one.input, x) for one in back.explanations.values())
    sizes = [(tmp_path / name).stat().st_size for name in ("c.pellucid", "d.pellucid")]
    assert all(small < large < small + 400 for small, large in pairwise(sizes)), "the input is kept once"


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields["explanations"].append("text"),
        lambda fields: fields["explanations"][0].pop("cost"),
        lambda fields: fields["explanations"][0]["cost"].update(seconds="long"),
        lambda fields: fields["explanations"][0]["cost"].update(forwards=0.5),
        lambda fields: fields["explanations"][0].pop("label"),
        lambda fields: fields["explanations"].pop(),
        lambda fields: fields["explanations"].clear(),
        lambda fields: fields.update(left_out={"z": 1}),
        lambda fields: fields.pop("warnings"),
    ],
)
def test_a_damaged_file_is_refused(change, tmp_path):
    from pellucid.archive import read_archive, write_archive

    of(torch.randn(2, 3), torch.randn(2, 3)).save(tmp_path / "c")
    kind, fields, tensors = read_archive(tmp_path / "c", kinds=("comparison",))
    change(fields)
    write_archive(tmp_path / "d", kind=kind, fields=fields, tensors=tensors)
    with pytest.raises(FileError, match="is not a readable comparison"):
        load(tmp_path / "d")
