"""Readers: from a file, a folder or a name to a batch of tensors with what is needed to show it."""

from __future__ import annotations

from pellucid.data.batch import Batch
from pellucid.data.reader import read_data, read_input

__all__ = ["Batch", "read_data", "read_input"]
