"""Whether the head of a cluster still answers, while its work is waited for.

Ray ends a process whose head is gone for a minute, without a word of what to do and with the lease
still held. Before that the main thread is interrupted, and says it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from dcsp.errors import DcspError, LostClusterError

from ._ending import end, interrupt

EVERY = 5.0
"""Seconds between two questions."""
STOOD_STILL = 3.0
"""Seconds between two looks after which this process, and not the head, has stood still."""
GRACE = 8.0
"""Seconds that the main thread gets to end: it may wait inside Ray, which minds no signal."""


class Heart:
    """Asks the head of a cluster, in threads of its own, for as long as :meth:`beating` lasts.

    Args:
        ask: Anything that the head answers; where it is gone, it raises or does not return.
        seconds: Without an answer, after which it is gone. A busy head answers within a few.
    """

    def __init__(self, ask: Callable[[], object], seconds: float) -> None:
        self._ask, self._seconds = ask, seconds
        self._asked = self._heard = time.monotonic()  # the last question with an answer, and that
        self._hurry, self._ended = threading.Event(), threading.Event()
        self._turn = threading.Lock()  # either it ends, or it is lost
        self._is_lost = False

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Work of the cluster is waited for, by the main thread.

        Raises:
            LostClusterError: Its head is gone, whatever error of Ray that showed as.
        """
        for watch in (self._listen, self._look):
            threading.Thread(target=watch, daemon=True).start()
        try:
            try:
                yield
            except DcspError:
                raise
            except Exception:
                self._wait_for_answer()
                raise
            with self._turn:
                self._ended.set()
        except KeyboardInterrupt:
            if self._is_lost:
                raise self._loss() from None
            raise
        finally:
            self._ended.set()
            self._hurry.set()

    def _loss(self) -> LostClusterError:
        return LostClusterError(
            f"The head of the Ray cluster has not answered for {self._seconds:.0f} s: look at the "
            "cluster (ray status), and submit the job again to resume."
        )

    def _wait_for_answer(self) -> None:
        """Until the head answers a question that is asked from now on, or this is interrupted."""
        now = time.monotonic()
        while self._asked < now:
            self._hurry.set()
            time.sleep(0.05)

    def _listen(self) -> None:
        while not self._ended.is_set():
            self._hurry.clear()
            asked = time.monotonic()
            with suppress(Exception):
                self._ask()
                self._asked, self._heard = asked, time.monotonic()
            if not self._ended.is_set():
                self._hurry.wait(EVERY if self._asked == asked else 1.0)

    def _look(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(1.0):
            now = time.monotonic()
            if now - before > STOOD_STILL:
                self._heard += now - before
            before = now
            if now - self._heard > self._seconds:
                break
        with self._turn:
            if self._ended.is_set():
                return
            self._is_lost = True
            interrupt()
        if not self._ended.wait(GRACE):
            end(f"error: {self._loss()}", 1)
