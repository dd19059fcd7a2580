"""Make timm.csv: of every timm module the variant with the fewest parameters, at the smallest input that it takes.

Run from the repository's root: ``python -m benchmarks.zoo.choose_timm``. Takes about 15 minutes on one core: every
variant is built without storage, the chosen ones are run once. The table is committed so that the rows stay the same
when timm grows.
"""

from __future__ import annotations

import csv
import logging
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models._registry import _module_to_models

SIZES = (64, 96, 128, 160, 192, 224)
TABLE = Path(__file__).with_name("timm.csv")
COLUMNS = ("module", "variant", "parameters", "size", "size_argument")
log = logging.getLogger(__name__)


def parameters(variant: str) -> int | None:
    """Number of parameters, or None where the variant cannot be built from its plain name."""
    try:
        with torch.device("meta"):
            model = timm.create_model(variant)
    except RuntimeError as error:
        log.warning("%s left out: %s", variant, error)
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def smallest_input(variant: str) -> tuple[int, str]:
    """Side of the smallest square picture that the variant takes, and the argument that announces it ("" for none)."""
    default: int = timm.get_pretrained_cfg(variant).input_size[-1]
    for size in sorted({size for size in SIZES if size < default} | {default}):
        for argument in ("", "img_size"):
            kwargs: dict[str, Any] = {argument: size} if argument and size != default else {}
            try:
                model = timm.create_model(variant, **kwargs).eval()
                with torch.no_grad():
                    model(torch.randn(1, 3, size, size))
            except Exception as error:  # models refuse a size in ways of their own
                log.info("%s at %d pixels: %s", variant, size, error)
                continue
            return size, argument if kwargs else ""
    raise RuntimeError(f"{variant} runs at none of the sizes {SIZES} nor at its own, {default}")


def main() -> None:
    """Write the table; variants made for timm's own tests (``test_*``) are left out."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for module, names in sorted(_module_to_models.items()):
            counts = {name: parameters(name) for name in sorted(names) if not name.startswith("test_")}
            known = {name: count for name, count in counts.items() if count is not None}
            variant = min(known, key=lambda name: (known[name], name))
            writer.writerow([module, variant, known[variant], *smallest_input(variant)])


if __name__ == "__main__":
    main()
