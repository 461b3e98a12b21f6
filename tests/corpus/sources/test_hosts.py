"""Hosts that fail: waited for while an outage may pass, then left alone for a while."""

from __future__ import annotations

import pytest

from dcsp.corpus.sources import hosts as module
from dcsp.corpus.sources.hosts import FAILURES, PATIENCE, REST, Hosts


class Time:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "time", time)
    return time


def fail(hosts: Hosts, name: str, times: int = FAILURES, wait: float = 0.0) -> bool:
    return [hosts.failed(name, wait) for _ in range(times)][-1]


def test_single_failures_pause_nothing(clock: Time) -> None:
    hosts = Hosts()
    for _ in range(10):
        assert not fail(hosts, "a", FAILURES - 1)
        hosts.succeeded("a")
    assert hosts.wait_for("a") and clock.pauses == []


def test_an_outage_is_waited_for_with_pauses_that_grow_until_patience_ends(clock: Time) -> None:
    hosts = Hosts()
    hosts.succeeded("a")
    assert fail(hosts, "a")
    started = clock.now
    while hosts.wait_for("a"):
        fail(hosts, "a", 1)
    assert clock.pauses[:6] == [1, 2, 4, 8, 16, 16]
    assert PATIENCE - 20 <= clock.now - started <= PATIENCE
    assert not hosts.wait_for("a")
    clock.now += REST
    assert hosts.wait_for("a"), "one image tries again"
    assert not fail(hosts, "a", 1) and not hosts.wait_for("a")
    clock.now += REST
    hosts.succeeded("a")
    assert hosts.wait_for("a") and fail(hosts, "a"), "it is known again"


def test_threads_that_fail_together_are_one_failure_of_the_host(clock: Time) -> None:
    hosts = Hosts()
    fail(hosts, "a", 40)
    assert hosts.wait_for("a") and clock.pauses == [1]


def test_a_host_is_heeded_that_asks_for_a_pause(clock: Time) -> None:
    hosts = Hosts()
    hosts.succeeded("a")
    assert fail(hosts, "a", 1, wait=30.0)
    assert hosts.wait_for("a") and clock.pauses == [30]
    hosts.succeeded("a")
    assert fail(hosts, "a", 1, wait=1e9)
    assert hosts.wait_for("a") and clock.pauses == [30, REST]


def test_a_host_that_never_sent_an_image_is_waited_for_only_where_none_did(clock: Time) -> None:
    hosts = Hosts()
    assert fail(hosts, "gone"), "it may be the network"
    hosts.succeeded("other")
    assert not hosts.wait_for("gone")
    clock.now += REST
    assert hosts.wait_for("gone") and not fail(hosts, "gone", 1) and not hosts.wait_for("gone")
    assert hosts.wait_for("other")


def test_many_hosts_that_are_all_gone_share_one_patience(clock: Time) -> None:
    hosts, started = Hosts(), clock.now
    for number in range(20):
        fail(hosts, f"gone{number}")
        while hosts.wait_for(f"gone{number}"):
            fail(hosts, f"gone{number}", 1)
    assert clock.now - started <= PATIENCE
