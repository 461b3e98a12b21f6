"""How every job runs: arguments in, an exit code out, whatever it was started by.

0: done; 2: the user's mistake, told in one line; 3: the run has ended and is not published, since
it fails a gate or was withdrawn; 1: a fault, with its traceback, or a cluster that went away, told
in one line; 128 and the number of the signal: the job was told to end, and has given back what it
held.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from types import TracebackType
from typing import Any, TextIO, cast

from dcsp.errors import DcspError, HeldBackError, LostClusterError, StoreError
from dcsp.progress import JsonLines, put, show_any_text

from ._ending import (
    BY_SIGNAL,
    FAULT,
    HELD_BACK,
    MISTAKE,
    Ending,
    end,
    last_words,
    tell_error,
)
from ._watch import PATIENT_THREADS

LOG_FORMAT, JSON = "--log-format", "json"
"""An option that every job has, and the value of it that :func:`run_job` obeys."""
NOISE = (
    "has constructor arguments in the object store and max_restarts > 0",
    "Failed to push error to driver for task",
    "Failed to connect to GCS at address",
    "Failed to connect to the observability pubsub at address",
    "Failed to get cluster ID from GCS server",
)
"""What Ray's C++ side says on the terminal: of every actor that Ray Data itself makes so, and of a
head that is gone, before the job says it."""


def run_job(main: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None) -> None:
    """Run a job's ``main`` and leave with its exit code; arguments left out: this process's."""
    arguments = sys.argv[1:] if arguments is None else arguments
    show_any_text()
    os.environ.update({n: v for n, v in PATIENT_THREADS.items() if n not in os.environ})
    if not os.environ.get("DCSP_RAY_LOGS"):
        drop_lines_of_stderr(*NOISE)
    if _asks_for_json(arguments):
        print_json()
    ending = Ending()
    ending.listen()
    try:
        main(arguments)
        sys.stdout.flush()
        return
    except (LostClusterError, StoreError) as error:  # what interrupts a job from inside, also
        told, code = f"error: {error}", FAULT if isinstance(error, LostClusterError) else MISTAKE
    except BaseException as error:
        if ending.is_told:  # whatever the interrupt has become on its way through Ray
            told, code = ending.words()
        elif isinstance(error, DcspError):
            code = HELD_BACK if isinstance(error, HeldBackError) else MISTAKE
            told = f"error: {error}"
        elif isinstance(error, BrokenPipeError) and any(map(_is_left, (sys.stdout, sys.stderr))):
            told = "nobody reads what this job prints; submit the job again to resume"
            code = BY_SIGNAL + signal.SIGPIPE
        else:
            tell_error(f"a fault ({type(error).__name__}): its log has the traceback")
            raise
    with suppress(OSError):
        sys.stdout.flush()
    end(told, code)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether the log is to be one of JSON; known before parsing, whose errors are in the log."""
    return f"{LOG_FORMAT}={JSON}" in arguments or (LOG_FORMAT, JSON) in pairwise(arguments)


def print_json() -> None:
    """Make whatever this process prints, and a traceback it ends with, objects of JSON."""
    sys.stdout = cast(TextIO, JsonLines(sys.stdout))
    sys.stderr = cast(TextIO, JsonLines(sys.stderr, "warning"))

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        lines = "".join(traceback.format_exception(kind, error, trace))
        put(f"{kind.__name__}: {error}", sys.stderr, "error", traceback=lines)

    sys.excepthook = told
    for stream in (sys.stdout, sys.stderr):  # a line that has not ended is told too
        atexit.register(stream.close)
        last_words.append(stream.close)


def _is_left(stream: Any) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(state & select.POLLERR for _, state in poll.poll(0))


def drop_lines_of_stderr(*texts: str) -> None:
    """Keep lines with one of some texts off the terminal, also those that no Python code writes.

    A process of its own filters them, so that the last words of a job that crashes come through.
    """
    terminal = os.dup(sys.stderr.fileno())
    command = ["grep", "--line-buffered", "--fixed-strings", "--invert-match"]
    command += [f"--regexp={text}" for text in texts]
    try:
        sieve = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=terminal, start_new_session=True
        )
    except OSError:
        os.close(terminal)
        return
    assert sieve.stdin is not None
    os.dup2(sieve.stdin.fileno(), sys.stderr.fileno())
    sieve.stdin.close()
    sys.stderr = os.fdopen(
        terminal, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace"
    )
