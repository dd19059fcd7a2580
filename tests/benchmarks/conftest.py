from __future__ import annotations

import sys
from pathlib import Path

# The benchmarks are scripts of the repository, not part of the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
