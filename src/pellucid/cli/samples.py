"""The model and the samples that a command works on, taken from its words."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
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

    folder = Path(place)
    photos = photos_in(folder) if place != "demo" and folder.is_dir() else []
    return [sample(photo, photo.name) for photo in photos] or [sample(place, folder.name or place)]
