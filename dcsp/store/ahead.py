"""Reading ahead: while one thing is worked on, the next are on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

READERS = 16
"""Small files that are read at once: most of the time they are on their way from a bucket."""


@contextmanager
def read_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int = READERS,
    held: int = 2 * READERS,
) -> Iterator[Iterator[Result]]:
    """Apply a function to items in threads, and give the results in the order of the items.

    The threads have ended when the ``with`` block has, whichever way it was left. A pool that is
    left to the garbage collector is ended at any moment, under any lock: that can wait for ever.

    Args:
        function: Called from several threads; what it raises is raised in the place of its result,
            and nothing further is begun then.
        items: Taken one at a time, as results are.
        threads: Calls at once.
        held: Most calls that are begun or done beside the one whose result was taken last.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        yield _in_order(pool, function, items, held)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], held: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > held:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
