"""How a job ends that is told to: no signal is lost, the lease goes back, one line says why.

A signal interrupts the main thread as Ctrl-C does. That can be lost: while Ray starts it has a
handler of its own, an exception that comes up in a callback or a destructor goes nowhere, and some
waits inside Ray mind none. So a thread hears of each signal from the interpreter itself, and ends a
job that goes on all the same.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from dcsp.progress import put
from dcsp.store import lease

FAULT, MISTAKE, HELD_BACK = 1, 2, 3
"""Exit codes of a job that no signal has ended."""
BY_SIGNAL = 128
"""What a shell adds to the number of the signal that ended a process."""
ENDINGS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "ended by SIGTERM",
    signal.SIGHUP: "ended by SIGHUP",
}
"""Signal → what is said of a job that it ends."""
AGAIN_SECONDS = 2.0
"""After so long one more signal ends what the job still does in order to end."""
LOST_SECONDS = 0.5
"""After so long a main thread that was not interrupted is interrupted again."""
GRACE = 5.0
"""Seconds from a signal on that the main thread gets to end: `docker stop` kills after 10."""

last_words: list[Callable[[], object]] = []
"""What is done when the process must end and its main thread cannot."""
told_of_errors: list[Callable[[str], object]] = []
"""Who is told, in a line, that an error ends the job; not of signals, nor of a run held back."""
_turn = threading.Lock()
_from_inside = threading.Event()


class Ending:
    """Signals that tell the job to end: each does what Ctrl-C does, so that the lease goes back."""

    def __init__(self) -> None:
        self._number = 0  # of the first signal: what the job is ended by
        self._is_interrupted = False
        self._told = float("-inf")

    def listen(self) -> None:
        """Mind the signals from now on; those that are ignored, as nohup leaves one, stay so."""
        minded = [n for n in ENDINGS if signal.getsignal(n) is not signal.SIG_IGN]
        for number in minded:
            signal.signal(number, self)
        heard, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        sys.unraisablehook = self._lost
        threading.Thread(target=self._watch, args=(heard, minded), daemon=True).start()

    def __call__(self, number: int, _: object) -> None:
        """Interrupt the main thread; not while it gives back what it holds."""
        self._number = self._number or number
        before, self._told = self._told, time.monotonic()
        if not self._is_interrupted or self._told - before > AGAIN_SECONDS:
            self._is_interrupted = True
            raise KeyboardInterrupt  # of a subclass Ray would make this one

    @property
    def is_told(self) -> bool:
        """Whether a signal has come."""
        return bool(self._number)

    def words(self) -> tuple[str, int]:
        """What is said of the job that a signal ends, and its exit code."""
        number = signal.Signals(self._number or signal.SIGINT)
        return f"{ENDINGS[number]}; submit the job again to resume", BY_SIGNAL + number

    def _lost(self, lost: sys.UnraisableHookArgs) -> None:
        """An exception came up where Python can only ignore it."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and issubclass(lost.exc_type, (KeyboardInterrupt, SystemExit)):
            self._is_interrupted = False  # such as a hook of a fork, of which Ray's start has many
        else:
            sys.__unraisablehook__(lost)

    def _watch(self, heard: int, minded: list[signal.Signals]) -> None:
        while True:
            number = os.read(heard, 1)[0]
            if number in minded and not (number == signal.SIGINT and _from_inside.is_set()):
                break
        self._number = self._number or number
        last = time.monotonic() + GRACE
        while time.monotonic() < last:
            time.sleep(LOST_SECONDS)
            if not self._is_interrupted:  # SIGINT: others may be Ray's at this moment
                lease.interrupt()
        end(*self.words())


def interrupt() -> None:
    """Interrupt the main thread, which has more to say than that a signal has come."""
    _from_inside.set()
    lease.interrupt()


def end(told: str, code: int) -> None:
    """End this process, and with it what it started; whoever comes first has the word.

    Threads that wait for Ray would, in Python's usual ending, end the process with an exit code of
    their own.
    """
    if threading.current_thread() is threading.main_thread():
        for number in ENDINGS:  # nothing is left to interrupt
            signal.signal(number, signal.SIG_IGN)
    with _turn:
        for word in last_words:
            with suppress(Exception):
                word()
        with suppress(OSError):
            is_error = code in (FAULT, MISTAKE, HELD_BACK)
            put(told, sys.stderr, "error" if is_error else "warning")
        if code in (FAULT, MISTAKE):
            tell_error(told.removeprefix("error: "))
        os._exit(code)


def tell_error(told: str) -> None:
    """Tell those who are to know that an error ends the job; the lease was given back before."""
    for tell in told_of_errors:
        with suppress(Exception):
            tell(told)
