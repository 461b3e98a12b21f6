"""Iterating over work that others do: it may stop moving, and its errors come wrapped."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dcsp.errors import ClusterError, DcspError

Result = TypeVar("Result")

RAY_DATA_ADDS = "\nFailed to apply UDF transform"
"""Start of the advice that Ray Data appends to the text of whatever a task raises."""


class Patience:
    """How long something may stand still.

    Args:
        title: Of the stage.
        minutes: Without any progress.
    """

    def __init__(self, title: str, minutes: float) -> None:
        self._title, self._minutes = title, minutes
        self.renew()

    def renew(self) -> None:
        """Something moved."""
        self._end = time.monotonic() + self._minutes * 60

    @property
    def left(self) -> float:
        """Seconds until it ends, not below 0."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raise the user's error when it has ended.

        Raises:
            ClusterError: Nothing moved for too long.
        """
        if not self.left:
            raise ClusterError(
                f"The stage {self._title} made no progress for {self._minutes:g} minutes: look at "
                "the cluster (ray status), or raise cluster.stall_minutes; submitting again "
                "resumes."
            )


def watched(make: Callable[[], Iterable[Result]], patience: Patience) -> Iterator[Result]:
    """Iterate in a thread and fail when nothing comes for too long; user errors come out bare.

    Ray Data has no call that ends an iteration from outside: after a stall the thread goes on.

    Raises:
        ClusterError: Nothing came for too long.
        DcspError: A task raised it.
    """
    done = object()
    items: queue.Queue[Any] = queue.Queue(maxsize=64)

    def run() -> None:
        try:
            for item in make():
                items.put((item, None))
            items.put((done, None))
        except BaseException as error:
            items.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        patience.renew()
        try:
            item, error = items.get(timeout=patience.left)
        except queue.Empty:
            patience.check()
            continue
        if error is not None:
            raise bare(error)
        if item is done:
            return
        yield item


class Board:
    """An actor between driver and training: how far it is, what the user must mend, when to end."""

    def __init__(self) -> None:
        self._state: tuple[int, str, DcspError | None] = (0, "", None)
        self._is_given_up = False

    def write(self, done: int, note: str, error: DcspError | None = None) -> None:
        """Say how many images are done, with a note such as the loss."""
        self._state = (done, note, error)

    def read(self) -> tuple[int, str, DcspError | None]:
        """What was written last."""
        return self._state

    def give_up(self) -> None:
        """The driver wants no more of it."""
        self._is_given_up = True

    def is_given_up(self) -> bool:
        """Whether the driver gave it up."""
        return self._is_given_up


def bare(error: BaseException) -> BaseException:
    """The user's error inside Ray's wrappers, or the error itself.

    A wrapper of Ray is of the wrapped error's class as well, with a traceback for its text: what
    has a ``cause`` is a wrapper.
    """
    waiting: list[Any] = [error]
    for seen in waiting:  # grows while it is walked
        inner = [getattr(seen, name, None) for name in ("cause", "controller_failure")]
        if isinstance(seen, DcspError) and not isinstance(inner[0], BaseException):
            if seen.args:
                seen.args = (str(seen).partition(RAY_DATA_ADDS)[0], *seen.args[1:])
            return seen
        inner += [seen.__cause__, *getattr(seen, "worker_failures", {}).values()]
        waiting += [e for e in inner if isinstance(e, BaseException) and e not in waiting]
    return error
