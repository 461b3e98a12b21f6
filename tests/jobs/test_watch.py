"""Watching work that others do."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from dcsp.errors import ClusterError, StoreError
from jobs import _watch
from jobs._watch import Patience, bare, watched, within


def test_items_come_in_order() -> None:
    assert list(watched(lambda: iter(range(200)), Patience("counting", 1))) == list(range(200))


def test_no_item_for_too_long_is_an_error_that_names_the_stage() -> None:
    def slow() -> Iterator[int]:
        yield 1
        time.sleep(30)

    items = watched(slow, Patience("saliency", 0.005))
    assert next(items) == 1
    with pytest.raises(ClusterError, match=r"saliency made no progress for 0\.005 minutes"):
        next(items)


def test_a_job_that_moves_may_still_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watch, "_STARTED", time.monotonic() - 59.7)
    items = watched(lambda: iter(partial(time.sleep, 0.05), 0), Patience("saliency", 1, 1))
    with pytest.raises(ClusterError, match=r"taken its 1 minutes in the stage saliency.*total_min"):
        assert len(list(items)) < 100


def test_work_that_tells_nothing_may_not_take_too_long() -> None:
    assert within(Patience("listing", 1), lambda: [1, 2]) == [1, 2]
    with pytest.raises(ClusterError, match=r"listing made no progress for 0\.005 minutes"):
        within(Patience("listing", 0.005), lambda: time.sleep(30))


def test_errors_of_such_work_come_out_as_they_are() -> None:
    def broken() -> None:
        raise StoreError("The disk is full: make room.")

    with pytest.raises(StoreError, match="make room"):
        within(Patience("report", 1), broken)


def test_errors_come_after_the_items_before_them() -> None:
    def faulty() -> Iterator[int]:
        yield 1
        raise KeyError("x")

    items = watched(faulty, Patience("counting", 1))
    assert next(items) == 1
    with pytest.raises(KeyError):
        next(items)


def test_an_error_keeps_nothing_of_what_was_at_work_alive() -> None:
    class Actor:
        myself: Actor

    seen = []

    def mine() -> Iterator[int]:
        actor = Actor()
        actor.myself = actor  # a cycle, as Ray Data has many
        seen.append(weakref.ref(actor))
        yield 1
        try:
            raise WrapperError(cause=StoreError("mend it"))
        except WrapperError as error:
            raise WrapperError() from error

    items = watched(mine, Patience("counting", 1))
    assert next(items) == 1
    with pytest.raises(StoreError, match="mend it") as caught:
        next(items)
    assert caught.value.__traceback__ is not None
    assert seen[0]() is None


def test_an_exception_can_be_an_item() -> None:
    (item,) = watched(lambda: iter([ValueError("of interest")]), Patience("collecting", 1))
    assert str(item) == "of interest"


class WrapperError(Exception):
    def __init__(self, **attributes: object) -> None:
        super().__init__("a traceback, many lines long")
        vars(self).update(attributes)


class DisguisedError(WrapperError, StoreError):
    """As Ray wraps: of the class of what it wraps."""


def test_the_users_error_is_found_in_every_wrapper() -> None:
    cause = StoreError("mend it")
    assert bare(cause) is cause
    assert bare(WrapperError(cause=cause)) is cause
    assert bare(DisguisedError(cause=cause)) is cause
    assert bare(WrapperError(worker_failures={1: WrapperError(cause=cause)})) is cause
    assert bare(WrapperError(controller_failure=WrapperError(cause=cause))) is cause
    chained = WrapperError()
    chained.__cause__ = cause
    assert bare(chained) is cause


def test_faults_stay_what_they_are() -> None:
    fault = WrapperError(cause=ValueError("a bug"))
    fault.__cause__ = fault
    assert bare(fault) is fault
