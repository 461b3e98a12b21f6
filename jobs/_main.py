"""The command line that every job shares: config and overrides in, an exit code out.

0: done; 2: the user's mistake, told in one line; 1: a fault, with its traceback.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dcsp.config import RunConfig
from dcsp.config.file import load_config
from dcsp.config.text import user_path
from dcsp.errors import ConfigError, DcspError
from dcsp.tables.snapshot import TRAIN, VAL

DONE, MISTAKE, INTERRUPTED = 0, 2, 130
NOISE = "has constructor arguments in the object store and max_restarts > 0"
"""What Ray's C++ side says on the terminal of every actor that Ray Data itself makes so."""


def config_parser(description: str) -> argparse.ArgumentParser:
    """A parser of ``--config FILE [key=value …]``."""
    parser = argparse.ArgumentParser(description=description)
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
        ConfigError: It cannot be read or is invalid, or asks to learn from ground truth.
    """
    config = load_config(arguments.config, arguments.overrides)
    if config.truth == "train":
        raise ConfigError(
            "truth=train makes networks learn from ground-truth masks, to compare others with: "
            "use jobs/compare.py --ceiling, or leave truth out."
        )
    return config


def run_job(main: Callable[[Sequence[str]], None]) -> None:
    """Run a job's ``main`` with this process's arguments and leave with its exit code."""
    if not os.environ.get("DCSP_RAY_LOGS"):
        drop_lines_of_stderr(NOISE)
    try:
        main(sys.argv[1:])
    except DcspError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = MISTAKE
    except KeyboardInterrupt:
        print("interrupted; submit the job again to resume", file=sys.stderr, flush=True)
        code = INTERRUPTED
    else:
        code = DONE
    if code == DONE:
        return
    # A stage that stood still leaves threads that wait for Ray: in Python's usual ending they would
    # end the process, with an exit code of their own. What this process started ends with it.
    sys.stdout.flush()
    os._exit(code)


def drop_lines_of_stderr(text: str) -> None:
    """Keep lines with some text off the terminal, also those that no Python code writes.

    A process of its own filters them, so that the last words of a job that crashes come through.
    """
    terminal = os.dup(sys.stderr.fileno())
    command = ["grep", "--line-buffered", "--fixed-strings", "--invert-match", text]
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
    sys.stderr = os.fdopen(terminal, "w", buffering=1, errors="backslashreplace")


def summary(metrics: dict[str, Any]) -> str:
    """The figures of a run in a line or two."""
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
    return "\n".join(lines) or "no usable ground truth: nothing was measured"
