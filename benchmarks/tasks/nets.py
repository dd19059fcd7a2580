"""Three small networks for the shapes, written as users write theirs, and their training from a fixed seed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.tasks import shapes

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
log = logging.getLogger(__name__)


def cnn() -> nn.Module:
    """Four convolutions with batch-norm, max-pooling between them, two linear layers."""
    layers: list[nn.Module] = []
    for inputs, outputs, pool in ((3, 16, True), (16, 32, True), (32, 64, True), (64, 64, False)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, len(shapes.CLASSES))
    )


class Block(nn.Module):
    """A basic residual block, the addition written as `+`."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet() -> nn.Module:
    """A stem and five basic blocks."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 32, 1),
        Block(32, 64, 2),
        Block(64, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, len(shapes.CLASSES)),
    )


class Layer(nn.Module):
    """A pre-norm transformer layer with fused attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer: patches of 8, a class token, learned positions, four layers."""

    def __init__(self, *, width: int = 96, heads: int = 4, depth: int = 4, patch: int = 8) -> None:
        super().__init__()
        tokens = (shapes.SIZE // patch) ** 2 + 1
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.layers = nn.Sequential(*[Layer(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(shapes.CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


NETS: dict[str, Callable[[], nn.Module]] = {"cnn": cnn, "resnet": resnet, "vit": ViT}
# Steps and highest learning rate of each cycle of training.
CYCLES = {
    "cnn": ((900, 4e-3),),
    "resnet": ((900, 4e-3),),
    "vit": ((6000, 1.5e-3), (1200, 6e-4), (1500, 8e-4), (600, 4e-4)),
}


def accuracy(model: nn.Module, *, tagged: float, n: int = 1000) -> float:
    """Share of `n` fresh images that `model` classifies rightly."""
    scene = shapes.make(n, seed=10**9, tagged=tagged)
    with torch.no_grad():
        return (model(scene.x).argmax(1) == scene.label).float().mean().item()


def train(name: str, *, steps: int | None = None, batch: int = 64) -> nn.Module:
    """Trains net `name` from a fixed seed on fresh images, one fifth of them tagged."""
    torch.manual_seed(0)
    model = NETS[name]()
    done = 0
    for length, rate in CYCLES[name]:
        length = length if steps is None else steps
        _cycle(model, range(done, done + length), rate, batch)
        done += length
    return model.eval()


def _cycle(model: nn.Module, seeds: range, rate: float, batch: int) -> None:
    """Trains on one batch for each of `seeds` while the learning rate rises to `rate` and falls again."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=len(seeds))
    for seed in seeds:
        scene = shapes.make(batch, seed=seed, tagged=0.2)
        loss = F.cross_entropy(model(scene.x), scene.label)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if seed % 100 == 99:
            log.info("seed %d, loss %.3f", seed, loss.item())


def load(name: str) -> nn.Module:
    """Net `name` with trained, frozen weights, trained first if no file holds them."""
    path = WEIGHTS / f"shapes-{name}.safetensors"
    if not path.exists():
        save_file(train(name).state_dict(), path)
    model = NETS[name]()
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)
