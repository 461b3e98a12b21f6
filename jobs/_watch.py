"""Iterating over work that others do: it may stop moving, and its errors come wrapped."""

from __future__ import annotations

import gc
import math
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dcsp.errors import ClusterError, DcspError

Result = TypeVar("Result")

RAY_DATA_ADDS = r"\nFailed to apply UDF transform"
"""Start of the advice that Ray Data appends to the text of whatever a task raises, after the end of
a line as errors of ours show it."""

PATIENT_THREADS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""Variables under which threads of a model that wait do not spin, read when torch is loaded: beside
reads and writes, and beside other processes, that costs several times the work itself (a training
step of 10 crops took 7.9 s with spinning threads, 2.3 s without)."""

_LATER = (0.5, 1.5, 4.0, 10.0, 30.0)
"""Seconds between collections after an error."""

_STARTED = time.monotonic()
"""When this job began."""


class Patience:
    """How long something may stand still, and how long its job may take.

    Args:
        title: Of the stage.
        minutes: Without any progress.
        total_minutes: From the start of this process on; ``None``: any time.
    """

    def __init__(self, title: str, minutes: float, total_minutes: float | None = None) -> None:
        self._title, self._minutes, self._total_minutes = title, minutes, total_minutes
        self._end = time.monotonic() + minutes * 60
        self._last = math.inf if total_minutes is None else _STARTED + total_minutes * 60

    def renew(self) -> None:
        """Something moved.

        Raises:
            ClusterError: Too late.
        """
        self._end = time.monotonic() + self._minutes * 60
        self.check()

    @property
    def left(self) -> float:
        """Seconds until it ends, not below 0."""
        return max(0.0, min(self._end, self._last) - time.monotonic())

    def check(self) -> None:
        """Raise the user's error when it has ended.

        Raises:
            ClusterError: Nothing moved for too long, or the job takes too long.
        """
        if self.left:
            return
        if self._last <= self._end:
            raise ClusterError(
                f"The job has taken its {self._total_minutes:g} minutes in the stage "
                f"{self._title}: raise cluster.total_minutes; submitting again resumes."
            )
        raise ClusterError(
            f"The stage {self._title} made no progress for {self._minutes:g} minutes: look at "
            "the cluster (ray status), or raise cluster.stall_minutes; submitting again "
            "resumes."
        )


def watched(make: Callable[[], Iterable[Result]], patience: Patience) -> Iterator[Result]:
    """Iterate in a thread and fail when nothing comes for too long; user errors come out bare.

    An error leaves nothing of the iteration: actors of Ray Data live, and keep their CPUs, as long
    as anything in this process refers to them, be it a cycle or the traceback of an error. Ray
    Data has no call that ends an iteration from outside: after a stall the thread goes on.

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
            items.put((None, released(error)))

    threading.Thread(target=run, daemon=True).start()
    while True:
        patience.renew()
        try:
            item, error = items.get(timeout=patience.left)
        except queue.Empty:
            patience.check()
            continue
        if error is not None:
            del make, run  # its traceback must not keep what they refer to
            _collect()
            raise error
        if item is done:
            return
        yield item


def within(patience: Patience, work: Callable[[], Result]) -> Result:
    """What some work of this process returns, which cannot tell how far it is.

    Raises:
        ClusterError: It took too long; its thread goes on until the process ends.
        DcspError: It raised it.
    """
    (result,) = watched(lambda: iter([work()]), patience)
    return result


class TrainingStatus:
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


def released(error: BaseException) -> BaseException:
    """What :func:`bare` gives, while all that was at work when it was raised is let go of."""
    waiting = [error]
    for seen in waiting:  # grows while it is walked
        traceback.clear_frames(seen.__traceback__)
        waiting += [e for e in (*_inside(seen), seen.__context__) if e and e not in waiting]
    found = bare(error)
    if found is not error:
        found.__cause__ = found.__context__ = found.__traceback__ = None
    return found


def _collect() -> None:
    """Free what only cycles hold, now and for a while: threads of the iteration may still end."""
    gc.collect()

    def later() -> None:
        for seconds in _LATER:
            time.sleep(seconds)
            gc.collect()

    threading.Thread(target=later, daemon=True).start()


def bare(error: BaseException) -> BaseException:
    """The user's error inside Ray's wrappers, or the error itself.

    A wrapper of Ray is of the wrapped error's class as well, with a traceback for its text: what
    has a ``cause`` is a wrapper.
    """
    waiting = [error]
    for seen in waiting:  # grows while it is walked
        if isinstance(seen, DcspError) and getattr(seen, "cause", None) is None:
            if seen.args:
                seen.args = (str(seen).partition(RAY_DATA_ADDS)[0], *seen.args[1:])
            return seen
        waiting += [inner for inner in _inside(seen) if inner not in waiting]
    return error


def _inside(error: BaseException) -> list[BaseException]:
    """The errors that an error of Ray, or of ``raise … from``, wraps."""
    found = [getattr(error, name, None) for name in ("cause", "controller_failure")]
    found += [error.__cause__, *getattr(error, "worker_failures", {}).values()]
    return [inner for inner in found if isinstance(inner, BaseException)]
