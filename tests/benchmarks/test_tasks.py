"""The tasks are what they say, and the scores tell a right map from a wrong one."""

from __future__ import annotations

import csv

import pytest
import torch

pytest.importorskip("torchvision")

from benchmarks.tasks import methods, nets, scores, sentences, shapes

from benchmarks import machine, truth


def test_scenes_repeat_and_hold_one_shape_and_the_tag():
    scene = shapes.make(40, seed=3, tagged=0.5)
    again = shapes.make(40, seed=3, tagged=0.5)
    assert torch.equal(scene.x, again.x)
    assert scene.x.shape == (40, 3, 64, 64)
    assert scene.x.abs().max() <= 1
    tagged = scene.tag.flatten(1).any(1)
    assert 5 < tagged.sum() < 35
    assert (scene.tag[tagged].flatten(1).sum(1) == shapes.TAG**2).all()
    assert (scene.label[tagged] == 0).all()
    assert torch.equal(scene.label[~tagged], scene.kind[~tagged])
    assert not (scene.mask & scene.tag).any()
    assert (scene.mask.flatten(1).sum(1) > 100).all()


def test_scores_are_one_on_the_mask_and_zero_beside_it():
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[:, 2:4, 2:5] = True
    heat = torch.stack([mask[0].float(), (~mask[1]).float()])
    assert scores.mass(heat, mask).tolist() == [1, 0]
    assert scores.rank(heat, mask).tolist() == [1, 0]
    assert scores.mass(torch.zeros(1, 8, 8), mask[:1]).tolist() == [0]


def test_positive_pooling_drops_pixels_whose_channels_sum_below_zero():
    relevance = torch.tensor([3.0, -4.0]).reshape(1, 2, 1, 1)
    assert scores.pool(relevance, "sum, positive").item() == 0
    assert scores.pool(relevance, "positive, sum").item() == 3


def test_cells_of_a_mosaic_are_counted_row_by_row():
    heat = torch.zeros(1, 4, 4)
    heat[0, 0, 3], heat[0, 2, 0] = 3, 1
    assert scores.cells(heat).tolist() == [[0, 0.75, 0.25, 0]]


def test_perturbation_favours_the_map_that_shows_what_the_model_uses():
    x = torch.zeros(1, 3, 64, 64)
    x[:, :, 8:16, 8:16] = 8

    def model(images: torch.Tensor) -> torch.Tensor:
        seen = images[:, :, 8:16, 8:16].mean((1, 2, 3))
        return torch.stack([seen, torch.full_like(seen, 4)], dim=1)

    right = torch.zeros_like(x)
    right[:, :, 8:16, 8:16] = 1
    insertion, deletion = scores.perturbation(model, x, 0, right)
    insertion_wrong, deletion_wrong = scores.perturbation(model, x, 0, -right)
    assert insertion > insertion_wrong + 0.3
    assert deletion < deletion_wrong - 0.3


@pytest.mark.parametrize("name", nets.NETS)
def test_nets_learn_from_a_seed(name: str):
    first, second = (nets.train(name, steps=2, batch=8) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first(shapes.make(2, seed=0).x).shape == (2, len(shapes.CLASSES))


def test_contrast_weights_sum_to_zero():
    torch.manual_seed(0)
    model = nets.cnn().eval()
    x = shapes.make(3, seed=0).x
    weights = methods.Query(model, x, [0, 1, 2], "contrast").weights()
    assert torch.allclose(weights.sum(1), torch.zeros(3), atol=1e-6)
    assert weights.argmax(1).tolist() == [0, 1, 2]


def test_sentences_hold_the_word_to_find():
    for pair in sentences.swapped() + sentences.shared():
        assert pair.word.lower() in pair.text.lower().split()
    assert all(pair.word.lower() not in pair.other.lower().split() for pair in sentences.swapped())
    assert all(pair.word.lower() in pair.other.lower().split() for pair in sentences.shared())


def test_relevance_of_a_words_tokens_is_added():
    relevance = torch.tensor([9.0, 1, 2, 3, 9])
    assert sentences.by_word(relevance, [None, 0, 0, 1, None]).tolist() == [3, 3]


def test_rows_of_one_task_say_how_they_were_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(nets, "load", lambda name: nets.NETS[name]().eval())
    rows = list(truth.rows(["shapes-cnn"], ["random"], ["logit"], 1))
    truthful = {(row["pooling"], row["score"]) for row in rows}
    assert ("sum, positive", "mass") in truthful
    path = tmp_path / "truth.csv"
    machine.write(path, rows, keys=truth.KEYS)
    machine.write(path, rows[:1], keys=truth.KEYS)
    with path.open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(rows)
    assert all(row["torch"] for row in found)


def test_a_success_replaces_a_failure_and_a_failure_the_scores(tmp_path):
    path = tmp_path / "table.csv"
    good = {"method": "a", "score": "mass", "value": "1"}
    bad = {"method": "a", "score": "", "value": ""}
    other = {"method": "b", "score": "mass", "value": "2"}
    for rows, expected in (([bad, other], ["", "2"]), ([good], ["2", "1"]), ([bad], ["2", ""])):
        machine.write(path, rows, keys=("method", "score"))
        with path.open(encoding="utf-8") as file:
            assert [row["value"] for row in csv.DictReader(file)] == expected
