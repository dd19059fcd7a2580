"""The families of transformers in the zoo."""

from __future__ import annotations

from benchmarks.zoo.families.decoders import DECODERS
from benchmarks.zoo.families.encoders import ENCODERS
from benchmarks.zoo.families.family import Family
from benchmarks.zoo.families.others import AUDIO, OTHERS
from benchmarks.zoo.families.pairs import PAIRS
from benchmarks.zoo.families.sparse import SPARSE
from benchmarks.zoo.families.vision import VISION

__all__ = ["FAMILIES", "Family"]

FAMILIES: tuple[Family, ...] = ENCODERS + DECODERS + SPARSE + PAIRS + VISION + AUDIO + OTHERS
