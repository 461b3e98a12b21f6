"""The command line that every job shares: config and overrides in, an exit code out.

0: done; 2: the user's mistake, told in one line; 3: the run has ended and is not published, since
it fails a gate or was withdrawn; 1: a fault, with its traceback, or a cluster that went away, told
in one line; 128 and the number of the signal: the job was told to end, and has given back what it
held.
"""

from __future__ import annotations

import argparse
import atexit
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO, cast

from dcsp.config import RunConfig
from dcsp.config.file import load_config
from dcsp.config.text import user_path
from dcsp.errors import ConfigError, DcspError, HeldBackError, LostClusterError, StoreError
from dcsp.progress import JsonLines, put, say, show_any_text
from dcsp.run.plan import Plan
from dcsp.store.store import Store
from dcsp.tables.layout import metrics_file, report_file
from dcsp.tables.snapshot import TRAIN, VAL
from dcsp.telemetry import work_on
from jobs._ending import (
    BY_SIGNAL,
    FAULT,
    HELD_BACK,
    MISTAKE,
    Ending,
    end,
    last_words,
    tell_error,
)
from jobs._places import check_places

JSON = "json"
"""Value of ``--log-format``."""
NOISE = (
    "has constructor arguments in the object store and max_restarts > 0",
    "Failed to push error to driver for task",
    "Failed to connect to GCS at address",
    "Failed to connect to the observability pubsub at address",
    "Failed to get cluster ID from GCS server",
)
"""What Ray's C++ side says on the terminal: of every actor that Ray Data itself makes so, and of a
head that is gone, before the job says it."""


def job_parser(description: str) -> argparse.ArgumentParser:
    """A parser of what every job has: ``--log-format``, which :func:`run_job` obeys."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--log-format",
        choices=("text", JSON),
        default="text",
        help="of all that is printed; json: an object a line, with time, level, run and stage",
    )
    return parser


def config_parser(description: str) -> argparse.ArgumentParser:
    """A parser of ``--config FILE [key=value …]``."""
    parser = job_parser(description)
    parser.add_argument(
        "--config", required=True, type=user_path, metavar="FILE", help="YAML file of settings"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace the file's"
    )
    return parser


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """The config that the arguments name.

    Raises:
        ConfigError: It cannot be read or is invalid, asks to learn from ground truth, or names
            places that a submitted job does not have.
    """
    config = load_config(arguments.config, arguments.overrides)
    work_on(config.name)
    check_places(config)
    if config.truth == "train":
        raise ConfigError(
            "truth=train makes networks learn from ground-truth masks, to compare others with: "
            "use jobs/compare.py --ceiling, or leave truth out."
        )
    return config


def run_job(main: Callable[[Sequence[str]], None]) -> None:
    """Run a job's ``main`` with this process's arguments and leave with its exit code."""
    show_any_text()
    if not os.environ.get("DCSP_RAY_LOGS"):
        drop_lines_of_stderr(*NOISE)
    if _asks_for_json(sys.argv[1:]):
        print_json()
    ending = Ending()
    ending.listen()
    try:
        main(sys.argv[1:])
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
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--log-format", nargs="?")
    return bool(parser.parse_known_args(arguments)[0].log_format == JSON)


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


def show_figures(store: Store, plan: Plan) -> None:
    """Say the figures of a run that was evaluated, and print where its report is."""
    for line in summary(store.read_json(metrics_file(plan.run_id))):
        say(line)
    print(f"report: {store.path(report_file(plan.run_id))}", flush=True)


def summary(metrics: dict[str, Any]) -> list[str]:
    """The figures of a run, in lines."""
    lines = []
    for phase, cues in metrics["cues"].items():
        if cues["miou"] is not None:
            first = f" (with S_1 alone {cues['miou_s1']:.1f})" if cues.get("miou_s1") else ""
            lines.append(f"cues {phase}: mIoU {cues['miou']:.1f}{first}")
    for split in (TRAIN, VAL):
        found = metrics.get(split)
        if found and found["miou"] is not None:
            crf = f", with CRF {found['miou_crf']:.1f}" if found["miou_crf"] is not None else ""
            lines.append(f"{split}: mIoU of the network alone {found['miou']:.1f}{crf}")
            lines.append(f"{split}: mIoU of published labels {found['miou_published']:.1f}")
    return lines or ["no usable ground truth: nothing was measured"]
