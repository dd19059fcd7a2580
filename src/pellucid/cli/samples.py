"""The model and the samples that a command works on, taken from its words."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.data import Batch
    from pellucid.models import LoadedModel, Preprocessing


@dataclass(frozen=True)
class Sample:
    """Something to explain in one go: its name, and how to read it (a batch of one photo, or of a file's samples)."""

    name: str
    read: Callable[[], Batch]


def load_model(spec: str, *, labels: Path | None, preprocess: Path | None, trust: bool) -> LoadedModel:
    """:func:`pellucid.load_model`, with the current folder searched for ``python:`` factories as Python itself does."""
    import pellucid

    folder = os.getcwd()
    if spec.startswith("python:") and folder not in sys.path:
        sys.path.append(folder)
    loaded: LoadedModel = pellucid.load_model(spec, labels=labels, preprocess=preprocess, trust=trust)
    return loaded


def samples(place: str, *, preprocessing: Preprocessing | None) -> list[Sample]:
    """What is to be explained one after the other: the photos of a folder, else the one input.

    Args:
        place: a file, a folder of photos, or a name such as ``demo``.
        preprocessing: from photos to tensors.

    Raises:
        FileError: a folder that cannot be listed.
    """
    from pellucid.data import read_input
    from pellucid.data.images import photos_in

    def sample(path: str | Path, name: str) -> Sample:
        return Sample(name, lambda: read_input(path, preprocessing=preprocessing))

    photos = photos_in(Path(place)) if place != "demo" and os.path.isdir(place) else []
    return [sample(photo, photo.name) for photo in photos] or [sample(place, Path(place).name or place)]


def position_names(loaded: LoadedModel, batch: Batch) -> list[Sequence[str] | None]:
    """For every sample the names of its positions: a table's columns, a text's tokens, None where there are none."""
    if batch.columns is not None:
        return [batch.columns] * len(batch)
    ids = batch.x.get("input_ids") if isinstance(batch.x, dict) else batch.x
    if loaded.tokenizer is None or ids is None or ids.ndim != 2 or ids.is_floating_point():
        return [None] * len(batch)
    return [loaded.tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()]
