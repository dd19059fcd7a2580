"""The linear maps on which every rule is compared with its dense form: name -> (module, input)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Matmul(nn.Module):
    """x @ weight with a plain parameter, as transformers' Conv1D and projection heads do."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, columns))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Affine(Matmul):
    """x @ weight + bias written with torch.addmm, weight not transposed."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(rows, columns)
        self.bias = nn.Parameter(torch.randn(columns))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


Make = Callable[[], tuple[nn.Module, tuple[int, ...]]]

MAPS: dict[str, Make] = {
    "linear": lambda: (nn.Linear(7, 5), (2, 7)),
    "linear-no-bias": lambda: (nn.Linear(7, 5, bias=False), (2, 7)),
    "linear-square": lambda: (nn.Linear(6, 6), (2, 6)),
    "linear-3d": lambda: (nn.Linear(4, 3), (2, 5, 4)),
    "linear-3d-no-bias": lambda: (nn.Linear(4, 3, bias=False), (2, 5, 4)),
    "matmul": lambda: (Matmul(6, 4), (2, 6)),
    "matmul-3d": lambda: (Matmul(4, 3), (2, 5, 4)),
    "addmm": lambda: (Affine(6, 4), (2, 6)),
    "conv1d": lambda: (nn.Conv1d(3, 4, 3), (2, 3, 8)),
    "conv1d-strided-dilated": lambda: (nn.Conv1d(3, 4, 3, stride=2, dilation=2, padding=2), (2, 3, 11)),
    "conv2d": lambda: (nn.Conv2d(2, 3, 3), (2, 2, 6, 5)),
    "conv2d-no-bias": lambda: (nn.Conv2d(2, 3, 3, bias=False), (2, 2, 5, 5)),
    "conv2d-padded": lambda: (nn.Conv2d(2, 3, 3, padding=1), (2, 2, 5, 5)),
    "conv2d-square": lambda: (nn.Conv2d(2, 2, 3, padding=1), (2, 2, 4, 4)),
    "conv2d-grouped": lambda: (nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 4, 4)),
    "conv2d-depthwise": lambda: (nn.Conv2d(3, 3, 3, groups=3, stride=2, padding=1), (2, 3, 5, 5)),
    "conv2d-strided-dilated": lambda: (
        nn.Conv2d(2, 3, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(2, 1)),
        (2, 2, 6, 6),
    ),
    "conv2d-stride-leaves-pixels": lambda: (nn.Conv2d(2, 3, 2, stride=3), (2, 2, 7, 7)),
    "conv1d-pointwise": lambda: (nn.Conv1d(3, 5, 1), (2, 3, 4)),
    "conv2d-pointwise": lambda: (nn.Conv2d(3, 4, 1), (2, 3, 3, 4)),
    "conv2d-pointwise-narrowing": lambda: (nn.Conv2d(5, 2, 1, bias=False), (2, 5, 3, 3)),
    "conv2d-pointwise-strided": lambda: (nn.Conv2d(3, 4, 1, stride=2), (2, 3, 4, 4)),
    "conv2d-pointwise-grouped": lambda: (nn.Conv2d(4, 4, 1, groups=2), (2, 4, 3, 3)),
    "conv2d-one-channel": lambda: (nn.Conv2d(2, 1, 3), (2, 2, 4, 4)),
    "conv1d-depthwise": lambda: (nn.Conv1d(3, 3, 3, groups=3, padding=1), (2, 3, 6)),
    "conv2d-depthwise-mirrored": lambda: (
        nn.Conv2d(3, 3, (3, 2), groups=3, padding=(2, 1), dilation=(1, 2)),
        (2, 3, 5, 6),
    ),
    "conv2d-depthwise-overpadded": lambda: (nn.Conv2d(3, 3, 2, groups=3, padding=2), (2, 3, 4, 4)),
    "conv3d-depthwise": lambda: (nn.Conv3d(2, 2, 2, groups=2, padding=1), (2, 2, 3, 3, 3)),
    "conv3d": lambda: (nn.Conv3d(2, 2, 2, stride=(1, 2, 1), padding=(1, 0, 1)), (2, 2, 3, 4, 3)),
    "conv-transpose1d": lambda: (nn.ConvTranspose1d(3, 2, 3, stride=2, padding=1, output_padding=1), (2, 3, 5)),
    "conv-transpose2d": lambda: (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1), (2, 2, 3, 4)),
    "conv-transpose2d-grouped": lambda: (nn.ConvTranspose2d(4, 6, 2, groups=2, dilation=2, bias=False), (2, 4, 3, 3)),
    "conv-transpose3d": lambda: (nn.ConvTranspose3d(2, 2, 2, stride=(2, 1, 1)), (2, 2, 2, 3, 2)),
}


def make(name: str, *, sign: str = "both", seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """Module, input (N, ...) and a density for its output, float64; `sign` of the input: "both" or "positive"."""
    torch.manual_seed(seed)
    module, shape = MAPS[name]()
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    x = torch.randn(shape, dtype=torch.float64)
    x = x.abs() if sign == "positive" else x
    with torch.no_grad():
        density = torch.randn_like(module(x))
    return module, x, density
