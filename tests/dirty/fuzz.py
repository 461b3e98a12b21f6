"""Bytes that a hostile or broken source sends, by the thousand: each is taken or refused as a type.

Cases run in a process of their own, which may die or hang and then costs its case alone. A case is
decided by its number, so that one that fails can be run again: ``python -m tests.dirty --case N``.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from dcsp.errors import DcspError, ImageError
from tests.dirty.kinds import KINDS

SECONDS = 20.0
"""A case that takes longer hangs."""
CRASHED, HUNG, WROTE = "crashed", "hung", "wrote outside"
FAILURES = (CRASHED, HUNG, WROTE)
_EXTREMES = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"..",
    b"/",
)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file as transfers, disks and attackers do: one to four times."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        size = len(changed)
        start = int(rng.integers(0, size + 1))
        length = int(rng.integers(1, max(2, min(64, size // 16))))  # of short texts little
        how = rng.integers(0, 6)
        if how == 0:
            del changed[start:]
        elif how == 1:
            del changed[start : start + length]
        elif how == 2:
            changed[start : start + length] = rng.bytes(length)
        elif how == 3:
            changed[start:start] = changed[start : start + length]
        elif how == 4 and size:
            changed[start % size] ^= 1 << int(rng.integers(0, 8))
        else:
            extreme = _EXTREMES[rng.integers(0, len(_EXTREMES))]
            changed[start : start + len(extreme)] = extreme
    return bytes(changed)


def run_case(number: int, folder: Path) -> tuple[str, str]:
    """One case in a folder that it may fill: the name of its kind, and what became of it.

    Raises:
        Exception: Whatever escaped that is no error for the user: a crash.
    """
    kind = KINDS[number % len(KINDS)]
    data = mutate(kind.good(), np.random.default_rng(number))
    inside = folder / "a" / "b" / "c"
    inside.mkdir(parents=True)
    try:
        outcome = kind.read(data, inside)
    except ImageError as error:
        outcome = error.reason
    except DcspError as error:
        outcome = f"refused: {type(error).__name__}"
    outside = {*folder.rglob("*")} - {*inside.rglob("*"), inside, *inside.parents}
    return kind.name, WROTE if outside else outcome


Case = Callable[[int, Path], tuple[str, str]]


def _work(numbers: range, connection: Connection, case: Case) -> None:
    """Do cases one after the other; says of each that it begins, then what came of it."""
    for number in numbers:
        connection.send((number, None))
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = case(number, Path(folder))
            except Exception as error:  # a crash of one case, told with its number
                found = (KINDS[number % len(KINDS)].name, f"{CRASHED}: {error!r}")
        connection.send((number, found))


def run_cases(
    numbers: range, seconds: float = SECONDS, case: Case = run_case
) -> Iterator[tuple[int, str, str]]:
    """Do cases in a process of their own: number, kind and outcome of each."""
    context = multiprocessing.get_context("spawn")
    todo = numbers
    while todo:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(todo, theirs, case), daemon=True)
        process.start()
        theirs.close()
        current, patience = todo.start, 60 + seconds  # the first message waits for the imports
        try:
            while current < todo.stop:
                if not ours.poll(patience):
                    yield current, KINDS[current % len(KINDS)].name, HUNG
                    break
                number, found = ours.recv()
                current, patience = number, seconds
                if found is not None:
                    yield number, *found
                    current += 1
        except (EOFError, ConnectionError):
            process.join()
            yield current, KINDS[current % len(KINDS)].name, f"{CRASHED}: exit {process.exitcode}"
        finally:
            process.kill()
            process.join()
        todo = range(max(current, todo.start) + (current < todo.stop), todo.stop)


def tally(results: Iterator[tuple[int, str, str]]) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Outcomes by kind, and what failed, told so that it can be run again."""
    counts: Counter[tuple[str, str]] = Counter()
    failures = []
    for number, kind, outcome in results:
        failed = outcome.startswith(FAILURES)
        counts[kind, outcome.partition(":")[0] if failed else outcome] += 1
        if failed:
            failures.append(f"case {number} ({kind}): {outcome}")
    return counts, failures
