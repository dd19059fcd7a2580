"""How right the explanations are where the truth is known: `python benchmarks/truth.py [--methods ...] [--tasks ...]`.

Writes benchmarks/results/truth.csv, one row for each task, model, method and score. `--train` only trains the networks.
Higher is better for every score but "deletion".
"""

from __future__ import annotations

import argparse
import fnmatch
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks import machine
from benchmarks.tasks import methods, nets, photos, scores, sentences, shapes, words

RESULTS = machine.RESULTS / "truth.csv"
KEYS = ("task", "model", "method", "scalar", "pooling", "score")
BATCH = 20
log = logging.getLogger("truth")

Scores = dict[tuple[str, str], list[float]]  # (pooling, name of the score) -> one value per sample


def _masks(method: methods.Method, scalar: str, name: str, *, tag: bool, n: int) -> Scores:
    """Mass and rank accuracy on `n` images that net `name` classifies rightly: of the shape, or of the tag."""
    model = nets.load(name)
    scene = shapes.make(2 * n, seed=123, tagged=float(tag))
    with torch.no_grad():
        right = model(scene.x).argmax(1) == scene.label
    if tag:
        right &= scene.kind != 0  # a tagged circle could be class 0 by its shape as well
    chosen = right.nonzero()[:n, 0]
    found: Scores = {}
    layer = {"cnn": lambda: model[12], "resnet": lambda: model[7], "vit": lambda: model.layers[-1].norm1}[name]()
    for part in chosen.split(BATCH):
        query = methods.Query(model, scene.x[part], scene.label[part].tolist(), scalar, layer)
        relevance = method(query)
        truth = (scene.tag if tag else scene.mask)[part]
        for pooling in ("sum, positive", "positive, sum", "squares"):
            heat = scores.pool(relevance, pooling)
            found.setdefault((pooling, "mass"), []).extend(scores.mass(heat, truth).tolist())
            found.setdefault((pooling, "rank"), []).extend(scores.rank(heat, truth).tolist())
    return found


def _pointing(method: methods.Method, scalar: str, *, n: int) -> Scores:
    """Share of positive relevance in the cell that shows the class, and how often that cell has the most."""
    found: Scores = {}
    model = photos.model()
    for photo in photos.mosaics(n):
        relevance = method(methods.Query(model, photo.x, [photo.target], scalar, model._bn1))
        for pooling, smooth in (("sum, positive", 1), ("sum, positive, smoothed over 9 pixels", 9)):
            shares = scores.cells(scores.pool(relevance, "sum, positive", smooth=smooth))[0]
            found.setdefault((pooling, "share"), []).append(shares[photo.cell].item())
            found.setdefault((pooling, "hit"), []).append(float(shares.argmax() == photo.cell))
    return found


def _perturbation(method: methods.Method, scalar: str, *, n: int) -> Scores:
    """Insertion, deletion and their difference on photos."""
    found: Scores = {}
    model = photos.model()
    for photo in photos.crops(n):
        relevance = method(methods.Query(model, photo.x, [photo.target], scalar, model._bn1))
        insertion, deletion = scores.perturbation(model, photo.x, photo.target, relevance)
        for name, value in (
            ("insertion - deletion", insertion - deletion),
            ("insertion", insertion),
            ("deletion", deletion),
        ):
            found.setdefault(("sum over patches of 8", name), []).append(value)
    return found


def _words(method: words.WordMethod, scalar: str, pairs: list[sentences.Pair], *, lowest: bool) -> Scores:
    """How often the word to find has the lowest or the highest relevance of all words of the sentence."""
    hits = []
    for pair in pairs:
        inputs, numbers = sentences.tokens(pair.text)
        direction = sentences.embed(pair.other)
        if scalar == "distance":
            direction = sentences.embed(pair.text) - direction
        relevance = sentences.by_word(method(words.WordQuery(inputs, direction)), numbers)
        best = relevance.argmin() if lowest else relevance.argmax()
        hits.append(float(best == sentences.position(pair)))
    return {("sum over a word's tokens", "hit@1"): hits}


def _tasks(n: int) -> dict[str, tuple[str, dict[str, object], tuple[str, ...], Callable[..., Scores]]]:
    """Tasks by name: model, methods, scalars that may be explained, and what runs them; `n` scales the samples."""
    tasks: dict[str, tuple[str, dict[str, object], tuple[str, ...], Callable[..., Scores]]] = {}
    both, images = ("logit", "contrast"), dict[str, object](methods.METHODS)
    for name in nets.NETS:
        tasks[f"shapes-{name}"] = (name, images, both, lambda m, s, name=name: _masks(m, s, name, tag=False, n=5 * n))
        tasks[f"tag-{name}"] = (name, images, both, lambda m, s, name=name: _masks(m, s, name, tag=True, n=3 * n))
    lite = "efficientnet-lite0"
    tasks["pointing"] = (lite, images, both, lambda m, s: _pointing(m, s, n=2 * n))
    tasks["perturbation"] = (lite, images, both, lambda m, s: _perturbation(m, s, n=2 * n))
    texts, encoder = dict[str, object](words.METHODS), "all-minilm-l6-v2"

    def pairs(of: Callable[[], list[sentences.Pair]]) -> list[sentences.Pair]:
        return of()[: 3 * n]

    tasks["words-differ"] = (
        encoder,
        texts,
        ("similarity",),
        lambda m, s: _words(m, s, pairs(sentences.swapped), lowest=True),
    )
    tasks["words-differ-distance"] = (
        encoder,
        texts,
        ("distance",),
        lambda m, s: _words(m, s, pairs(sentences.swapped), lowest=False),
    )
    tasks["words-share"] = (
        encoder,
        texts,
        ("similarity",),
        lambda m, s: _words(m, s, pairs(sentences.shared), lowest=False),
    )
    return tasks


def rows(tasks: list[str], wanted: list[str], scalars: list[str], n: int) -> Iterator[dict[str, object]]:
    """One row for each score; a method that a task's model defeats gets a row with its error and no score."""
    facts = machine.facts("torchvision", "transformers", "zennit", "captum", "autolrp", "grad-cam")
    for task, (model, available, offered, run) in _tasks(n).items():
        if not any(fnmatch.fnmatch(task, pattern) for pattern in tasks):
            continue
        for name, method in available.items():
            if not any(fnmatch.fnmatch(name, pattern) for pattern in wanted):
                continue
            for scalar in offered:
                if scalar in ("logit", "contrast") and scalar not in scalars:
                    continue
                base: dict[str, object] = {"task": task, "model": model, "method": name, "scalar": scalar}
                start = time.perf_counter()
                try:
                    found = run(method, scalar)
                except Exception as error:  # a peer may fail in any way; the table says how
                    log.warning("%s, %s: %s: %s", task, name, type(error).__name__, error)
                    yield base | {"pooling": "", "score": "", "note": f"fails: {type(error).__name__}"} | facts
                    continue
                seconds = time.perf_counter() - start
                for (pooling, score), values in found.items():
                    mean = torch.tensor(values)
                    bad = int((~mean.isfinite()).sum())
                    row = base | {
                        "pooling": pooling,
                        "score": score,
                        "value": f"{mean.nanmean():.4f}",
                        "n": len(values),
                    }
                    yield row | {"seconds": f"{seconds:.1f}", "note": f"{bad} not finite" if bad else ""} | facts
                first = next(iter(found))
                shown = ", ".join(
                    f"{score} {sum(v) / len(v):.3f}" for (pool, score), v in found.items() if pool == first[0]
                )
                log.info("%-22s %-42s %-10s %s  (%.0f s)", task, name, scalar, shown, seconds)


def main(arguments: list[str] | None = None) -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train the networks that have no weights yet, then stop")
    parser.add_argument("--tasks", nargs="+", default=["*"], help="names or patterns of tasks")
    parser.add_argument("--methods", nargs="+", default=["*"], help="names or patterns of methods")
    parser.add_argument(
        "--scalars", nargs="+", default=["logit", "contrast"], help="of the classifiers: logit, contrast"
    )
    parser.add_argument(
        "--samples", type=int, default=20, help="scale of the number of samples (20: 100 shapes, 40 photos)"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    if options.train:
        for name in nets.NETS:
            model = nets.load(name)
            log.info(
                "%s: %.3f plain, %.3f tagged", name, nets.accuracy(model, tagged=0), nets.accuracy(model, tagged=1)
            )
        return
    for row in rows(options.tasks, options.methods, options.scalars, options.samples):
        machine.write(options.output, [row], keys=KEYS)


if __name__ == "__main__":
    main()
