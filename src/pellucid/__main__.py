"""Runs the command line: ``python -m pellucid``."""

from __future__ import annotations

from pellucid.cli import main

if __name__ == "__main__":
    main()
