"""Reading ahead: in order, a few at once, and nothing is begun after a fault."""

from __future__ import annotations

import threading
import time

import pytest

from dcsp.store.ahead import read_ahead


def test_results_come_in_the_order_of_the_items() -> None:
    def slowly(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    assert list(read_ahead(slowly, range(40), threads=8, held=8)) == [n * n for n in range(40)]
    assert list(read_ahead(slowly, [])) == []


def test_the_next_are_read_while_one_is_worked_on() -> None:
    gate = threading.Barrier(3, timeout=10)  # passed by three calls at once alone

    def meet(item: int) -> int:
        gate.wait()
        return item

    assert list(read_ahead(meet, range(6), threads=3, held=3)) == list(range(6))


@pytest.mark.parametrize(("threads", "held"), [(1, 1), (2, 2), (4, 8)])
def test_few_are_held(threads: int, held: int) -> None:
    begun: list[int] = []
    results = read_ahead(lambda item: begun.append(item), iter(range(100)), threads, held)
    for taken, _ in enumerate(results, start=1):
        assert len(begun) <= taken + held


def test_nothing_is_begun_after_a_fault() -> None:
    begun: list[int] = []

    def fails(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise OSError("the bucket is gone")
        return item

    taken = []
    with pytest.raises(OSError, match="the bucket is gone"):
        taken += list(read_ahead(fails, range(100), threads=2, held=2))
    assert max(begun) <= 3 + 2
