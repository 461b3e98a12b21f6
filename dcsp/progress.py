"""Progress for people and for logs: a bar on a terminal, one line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm

LOG_SECONDS = 5.0


class Progress:
    """Counts finished images of one stage and shows rate and time left.

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
        self._bar = (
            tqdm(total=total, desc=title, unit=f" {unit}", file=self._stream, dynamic_ncols=True)
            if self._stream.isatty()
            else None
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.done:
            self._log()

    def reach(self, done: int, note: str = "") -> None:
        """Say how much is done so far, with a short note such as the loss."""
        step, self.done = done - self.done, done
        if self._bar is not None:
            self._bar.set_postfix_str(note)
            self._bar.update(step)
        elif time.monotonic() - self._logged >= LOG_SECONDS:
            self._log(note)

    def advance(self, step: int, note: str = "") -> None:
        """Say that ``step`` more are done."""
        self.reach(self.done + step, note)

    def line(self, note: str = "") -> str:
        """One line: title, counts, rate, time left."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = self.done / seconds
        left = max(self.total - self.done, 0) / rate if rate else float("inf")
        text = (
            f"{self.title}: {self.done}/{self.total} {self._unit}, {rate:.1f} {self._unit}/s, "
            f"{_clock(seconds)} gone, {_clock(left)} left"
        )
        return f"{text}, {note}" if note else text

    def _log(self, note: str = "") -> None:
        self._logged = time.monotonic()
        print(self.line(note), file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
