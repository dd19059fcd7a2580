"""The command line ``pellucid``: thin, it calls what Python users call.

torch is imported inside the commands, so that help, completion and ``--version`` answer at once.
"""

from __future__ import annotations

from pellucid.cli.app import app, main

__all__ = ["app", "main"]
