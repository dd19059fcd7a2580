"""Programs as torch.export writes them, and the same with something in them changed."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn1(self.conv1(x)) + x)


class Images(nn.Module):
    """Residual, with a reused activation, an in-place one, a constant and a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU6())
        self.blocks = nn.ModuleList([Block(6), Block(6)])
        self.scale = nn.Parameter(torch.ones(6, 1, 1) * 1.5)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x) * self.scale
        return self.fc(self.drop(F.adaptive_avg_pool2d(x, 1).flatten(1)))


class Words(nn.Module):
    """Token ids through an embedding, attention under no_grad positions, and an LSTM; writes into what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.norm = nn.LayerNorm(8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.lstm = nn.LSTM(8, 5, batch_first=True, bidirectional=True)
        self.register_buffer("shift", torch.full((8,), 0.1), persistent=False)
        self.head = nn.Linear(10, 3)

    def forward(self, ids: Tensor) -> Tensor:
        with torch.no_grad():
            place = torch.arange(ids.shape[1], device=ids.device).float() / 10
        x = self.norm(self.embed(ids) + self.shift + place[None, :, None])
        x = x + self.attend(x, x, x, need_weights=False)[0]
        y = self.lstm(x)[0].clone()
        y[:, 0] = 0.5
        y.mul_(2)
        return self.head(y.mean(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        return {"a": self.head(self.embed(ids)), "b": self.embed.weight.sum() * ids}


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The model with drawn weights and moving statistics, in evaluation mode."""
    torch.manual_seed(0)
    module = make()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


def export(module: nn.Module, example: Tensor, path: Path, *, free: bool = True) -> Path:
    """Write ``module`` as a program with a free batch axis."""
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what its own LSTM does while it is traced
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)
    return path


def rewritten(
    path: Path,
    target: Path,
    *,
    members: Callable[[dict[str, bytes]], None] | None = None,
    program: Callable[[dict[str, Any]], None] | None = None,
    weights: Callable[[dict[str, Any]], None] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A copy of an archive in which something was changed."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(held)).partition("/")[0]
    changes: Mapping[str, Any] = {"models/model.json": program, "data/weights/model_weights_config.json": weights}
    for name, change in changes.items():
        if change is not None:
            content = json.loads(held[f"{root}/{name}"])
            change(content)
            held[f"{root}/{name}"] = json.dumps(content).encode()
    if members is not None:
        members(held)
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in held.items():
            archive.writestr(name, data)
    return target


def write_files(folder: Path) -> None:
    """Make the files of ``tests/data/exported`` anew, without the traces of the code that they were exported from."""
    image, ids = torch.randn(2, 3, 12, 12), torch.randint(0, 20, (2, 6))
    export(seeded(Images), image, folder / "images.pt2")
    export(seeded(Images), image[:1], folder / "fixed.pt2", free=False)
    export(seeded(Images).train(), image, folder / "train.pt2")
    export(seeded(Words), ids, folder / "words.pt2")
    export(seeded(Tied), torch.randint(0, 7, (2, 4)), folder / "tied.pt2")
    for path in folder.glob("*.pt2"):
        rewritten(path, path, program=_forget)


def _forget(part: Any) -> None:
    if isinstance(part, dict):
        part.pop("stack_trace", None)
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _forget(inner)
