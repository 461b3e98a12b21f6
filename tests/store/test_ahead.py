"""Reading ahead: in order, a few at once, and nothing is begun after a fault."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import suppress

import pytest

from dcsp.store.ahead import read_ahead
from tests.threads import no_thread_left


def test_results_come_in_the_order_of_the_items() -> None:
    def slowly(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    with read_ahead(slowly, range(40), threads=8, held=8) as results:
        assert list(results) == [n * n for n in range(40)]
    with read_ahead(slowly, []) as results:
        assert list(results) == []


def test_the_next_are_read_while_one_is_worked_on() -> None:
    gate = threading.Barrier(3, timeout=10)  # passed by three calls at once alone

    def meet(item: int) -> int:
        gate.wait()
        return item

    with read_ahead(meet, range(6), threads=3, held=3) as results:
        assert list(results) == list(range(6))


@pytest.mark.parametrize(("threads", "held"), [(1, 1), (2, 2), (4, 8)])
def test_few_are_held(threads: int, held: int) -> None:
    begun: list[int] = []
    with read_ahead(begun.append, iter(range(100)), threads, held) as results:
        for taken, _ in enumerate(results, start=1):
            assert len(begun) <= taken + held


def test_nothing_is_begun_after_a_fault() -> None:
    begun: list[int] = []

    def fails(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise OSError("the bucket is gone")
        return item

    with (
        pytest.raises(OSError, match="the bucket is gone"),
        read_ahead(fails, range(100), threads=2, held=2) as results,
    ):
        list(results)
    assert max(begun) <= 3 + 2


@pytest.mark.parametrize("taken", [0, 1, 5, 6])
@pytest.mark.parametrize("fault", [None, KeyboardInterrupt])
def test_the_threads_end_with_the_block_however_it_is_left(
    taken: int, fault: type[BaseException] | None
) -> None:
    """Without the garbage collector: it runs under any lock, where a pool cannot be ended."""
    gc.disable()
    try:
        with (
            no_thread_left(),
            suppress(KeyboardInterrupt),
            read_ahead(str, range(6), threads=3) as results,
        ):
            held = [next(results) for _ in range(taken)]
            if fault:
                raise fault
        assert held == [str(number) for number in range(taken)]
    finally:
        gc.enable()
