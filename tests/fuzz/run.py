"""Spoilt files, each read: a clear error or a result, in bounded time and memory."""

from __future__ import annotations

import contextlib
import logging
import random
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import PellucidError
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import Reader, readers

SECONDS = 10
GROWTH = 1_000 * 2**20  # bytes that reading a file of at most 4 MiB may add to the process


@dataclass
class Failure:
    """A case that ended otherwise than it may."""

    case: int
    reader: str
    what: str


class TookTooLongError(BaseException):
    """Raised by the clock; nothing that reads files catches it."""


def cases(folder: Path, numbers: range) -> Iterator[tuple[int, Reader, Failure | None, float]]:
    """Run the cases of these numbers; each number stands for one spoilt file, the same on every machine."""
    found = list(readers(folder))
    with _clock(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in numbers:
            rng = random.Random(number)
            reader = found[number % len(found)]
            path = folder / f"case{reader.suffix}"
            path.write_bytes(mutated(rng.choice(reader.seeds), rng))
            start, before = time.perf_counter(), _peak()
            what = _read(reader, path)
            if what is None and _peak() - before > GROWTH:
                what = f"took {(_peak() - before) / 2**20:,.0f} MiB"
            yield number, reader, Failure(number, reader.name, what) if what else None, time.perf_counter() - start


def _read(reader: Reader, path: Path) -> str | None:
    """What is wrong about how reading ends, or None."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        reader.read(path)
    except PellucidError as error:
        return None if 10 < len(str(error)) < 9000 else f"the error's text has {len(str(error))} letters"
    except TookTooLongError:
        return f"took longer than {SECONDS} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


@contextlib.contextmanager
def _clock() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TookTooLongError

    old = signal.signal(signal.SIGALRM, ring)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        signal.signal(signal.SIGALRM, old)


def _peak() -> int:
    """The most memory that this process ever had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
