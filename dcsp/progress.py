"""Progress for people and for logs: a bar on a terminal, one line every few seconds in a log.

Work ends in lumps that take minutes, such as parts: in between, a thread shows that time passes. A
log may also be one of JSON: every line is then an object, whoever printed it.
"""

from __future__ import annotations

import io
import json
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self, TextIO

from tqdm import tqdm

from dcsp.telemetry import IMAGES, RATE, job_at, tell
from dcsp.text import shown

Level = Literal["info", "warning", "error"]

LOG_SECONDS = 5.0
"""Seconds between two lines of a log."""
BAR_SECONDS = 1.0
"""Seconds between two looks of a bar that nothing moves."""
_ENDS = re.compile("[\r\n]")


def say(text: str) -> None:
    """One line for whoever watches; it may quote what strangers wrote."""
    put(shown(text), sys.stderr)


def put(text: str, stream: TextIO, level: Level = "info", **fields: Any) -> None:
    """Write some text, or where the log is one of JSON an object that has some fields more."""
    if isinstance(stream, JsonLines):
        stream.put(text, level, fields)
    else:
        print(text, file=stream, flush=True)


def show_any_text() -> None:
    """Escape what standard output and error cannot show, where Python would raise.

    Such as an en dash on an ASCII terminal, or a file name that is no UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class JsonLines(io.TextIOBase):
    """A stream of JSON objects, one a line: when, how grave, at which run and stage, and what.

    Args:
        stream: Where they go.
        level: Of what is printed here by others than :func:`put`.
    """

    def __init__(self, stream: TextIO, level: Level = "info") -> None:
        self._stream, self._level, self._rest = stream, level, ""
        self._turn = threading.RLock()

    def write(self, text: str) -> int:
        """Make an object of every line that has ended, also where a bar draws over it."""
        with self._turn:
            *lines, self._rest = _ENDS.split(self._rest + text)
            for line in lines:
                if line.strip():
                    self.put(line.rstrip(), self._level, {})
        return len(text)

    def put(self, text: str, level: Level, fields: Mapping[str, Any]) -> None:
        """Write one object; ``run`` is the id or, before it is known, the name it begins with."""
        at = job_at()
        event = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "run": at["run"] or at["name"],
            "stage": at["stage"],
            "message": text,
            **fields,
        }
        with self._turn:
            self._stream.write(f"{as_json(event)}\n")
            self._stream.flush()

    def flush(self) -> None:
        """Nothing waits here but a line that has not ended."""
        self._stream.flush()

    def close(self) -> None:
        """Make an object of a line that has not ended; the stream below stays open."""
        if not self.closed:
            self.write("\n")
            self.flush()
        super().close()

    def fileno(self) -> int:
        """That of the stream below."""
        return self._stream.fileno()


def as_json(value: Any) -> str:
    """JSON, which knows no figure that is not finite: such a one becomes text.

    Dataclasses become objects of their fields, sets lists.
    """
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except ValueError:
        plain = json.loads(json.dumps(value, default=_plain), parse_constant=str)
        return json.dumps(plain)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else [*value]


class Progress:
    """Counts finished images of one stage and shows rate and time left.

    As a context it also shows the time that passes while nothing ends.

    Args:
        title: Name of the stage.
        total: Images to do.
        unit: What is counted.
        stream: Where to write; left out: standard error.
    """

    def __init__(
        self, title: str, total: int, unit: str = "images", stream: TextIO | None = None
    ) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self._unit = unit
        self._stream = stream or sys.stderr
        self._started = time.monotonic()
        self._logged = self._started
        self._note = ""
        self._lock = threading.Lock()  # of what the ticking thread shows
        self._ended = threading.Event()
        self._ticking = threading.Thread(target=self._tick, name=f"progress {title}", daemon=True)
        self._bar = (
            tqdm(total=total, desc=title, unit=f" {unit}", file=self._stream, dynamic_ncols=True)
            if self._stream.isatty()
            else None
        )

    def __enter__(self) -> Self:
        self._ticking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticking.join()
        if self._bar is not None:
            self._bar.close()
        elif self.done:
            self._log()
        self._tell_rate(0.0)

    def reach(self, done: int, note: str = "") -> None:
        """Say how much is done so far, with a short note such as the loss."""
        with self._lock:
            self._reach(done, note)

    def advance(self, step: int, statuses: Mapping[str, int] | None = None) -> None:
        """Say that ``step`` more are done, and of rows of a table how many have which status."""
        with self._lock:
            self._reach(self.done + step, "", statuses)

    @property
    def rate(self) -> float:
        """What was done a second, from the beginning on."""
        return self.done / max(time.monotonic() - self._started, 1e-9)

    def line(self, note: str = "") -> str:
        """One line: title, counts, rate, and time by the clock of a bar."""
        seconds, rate = time.monotonic() - self._started, self.rate
        rest = max(self.total - self.done, 0)
        left = tqdm.format_interval(rest / rate) if rate else "?"
        text = (
            f"{self.title}: {self.done}/{self.total} {self._unit}, "
            f"{f'{rate:.1f}' if rate else '?'} {self._unit}/s, "
            f"{tqdm.format_interval(seconds)} gone, {left} left"
        )
        return shown(f"{text}, {note}" if note else text)

    def _reach(self, done: int, note: str, statuses: Mapping[str, int] | None = None) -> None:
        step, self.done, self._note = done - self.done, done, note
        if self._unit == "images":
            for status, count in (statuses or {"done": step}).items():
                if count > 0:  # a training that lost a worker goes back to its checkpoint
                    tell(IMAGES, count, stage=self.title, status=status)
            self._tell_rate(self.rate)
        if self._bar is not None:
            self._bar.set_postfix_str(note)
            self._bar.update(step)
        elif self._until_next_line() <= 0:
            self._log(note)

    def _tick(self) -> None:
        """Show the time that passes until the context is left."""
        while not self._ended.wait(max(self._until_next_look(), 0.0)):
            with self._lock:
                self._tell_rate(self.rate)
                if self._bar is not None:
                    self._bar.refresh()
                elif self._until_next_line() <= 0:  # else a line was logged meanwhile
                    self._log(self._note)

    def _until_next_look(self) -> float:
        return BAR_SECONDS if self._bar is not None else self._until_next_line()

    def _until_next_line(self) -> float:
        return self._logged + LOG_SECONDS - time.monotonic()

    def _log(self, note: str = "") -> None:
        self._logged = time.monotonic()
        fields: dict[str, Any] = {"done": self.done, "total": self.total, "unit": self._unit}
        fields |= {"stage": self.title, "rate": round(self.rate, 3), "note": note}
        put(self.line(note), self._stream, **fields)

    def _tell_rate(self, rate: float) -> None:
        if self._unit == "images":
            tell(RATE, rate, stage=self.title)
