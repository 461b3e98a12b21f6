"""The command line that every job shares: config and overrides in, an exit code out.

0: done; 2: the user's mistake, told in one line; 1: a fault, with its traceback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dcsp.config import RunConfig, load_config
from dcsp.errors import DcspError

DONE, MISTAKE, INTERRUPTED = 0, 2, 130


def config_parser(description: str) -> argparse.ArgumentParser:
    """A parser of ``--config FILE [key=value …]``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML file of settings")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace the file's"
    )
    return parser


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """The config that the arguments name.

    Raises:
        ConfigError: It cannot be read or is invalid.
    """
    return load_config(arguments.config, arguments.overrides)


def run_job(main: Callable[[Sequence[str]], None]) -> None:
    """Run a job's ``main`` with this process's arguments and leave with its exit code."""
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
    sys.exit(code)


def summary(metrics: dict[str, Any]) -> str:
    """The figures of a run in a line or two."""
    lines = []
    for phase, cues in metrics["cues"].items():
        if cues["miou"] is not None:
            first = f" (with S_1 alone {cues['miou_s1']:.1f})" if cues.get("miou_s1") else ""
            lines.append(f"cues {phase}: mIoU {cues['miou']:.1f}{first}")
    for split in ("train", "val"):
        found = metrics.get(split)
        if found and found["miou"] is not None:
            crf = f", with CRF {found['miou_crf']:.1f}" if found["miou_crf"] is not None else ""
            lines.append(f"{split}: mIoU {found['miou']:.1f}{crf}")
    return "\n".join(lines) or "no ground truth: nothing was measured"
