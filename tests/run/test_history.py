"""What was published and held back: a walk over events, against a model that keeps a stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.errors import StoreError
from dcsp.run.history import Event, History, add_event, read_history, tell_published
from dcsp.run.publishing import roll_back
from dcsp.run.record import publish
from dcsp.store.store import Store
from dcsp.tables.layout import CURRENT, HISTORY, current_run, metrics_file, run_file

RUNS = ("a", "b", "c", "d")


def store_of(place: Path, runs: tuple[str, ...] = RUNS) -> Store:
    """A store of runs that have ended and have no tables."""
    store = Store(place)
    for run in runs:
        store.write_json(run_file(run), {"run_id": run, "snapshot": "none", "steps": []})
        store.write_json(metrics_file(run), {})
    return store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr("dcsp.run.publishing.Snapshot.load", lambda *_: None)
    monkeypatch.setattr("dcsp.run.publishing.scopes", lambda _: {})
    return store_of(tmp_path)


def back(store: Store, target: str | None = None) -> str | None:
    roll_back(store, target, lambda: None)
    return current_run(store)


def test_an_event_is_a_file_that_is_never_written_again(store: Store) -> None:
    publish(store, "a", "relabel")
    publish(store, "b", "relabel", ["too few"])
    files = {name: store.read_bytes(f"{HISTORY}/{name}") for name in store.list(HISTORY)}
    assert [name[:7] for name in files] == ["000001-", "000002-"]
    publish(store, "b", "evaluate")  # is published
    assert back(store) == "a"
    later = {name: store.read_bytes(f"{HISTORY}/{name}") for name in store.list(HISTORY)}
    assert len(later) == 3 and {name: later[name] for name in files} == files
    events = read_history(store).events
    assert [(e.kind, e.run, e.by, e.before, e.withdrawn, e.reasons) for e in events] == [
        ("published", "a", "relabel", None, (), ()),
        ("published", "b", "relabel", "a", (), ("too few",)),
        ("rolled back", "a", "dcsp rollback", "b", ("b",), ()),
    ]
    assert all(len(event.at) == 20 and event.at.endswith("Z") for event in events)


def test_a_rollback_of_a_rollback_goes_further_back(store: Store) -> None:
    for run in RUNS:
        publish(store, run, "relabel")
    assert [back(store), back(store), back(store)] == ["c", "b", "a"]
    with pytest.raises(StoreError, match="has no run before a that was not withdrawn"):
        back(store)
    assert set(read_history(store).withdrawn) == {"b", "c", "d"}
    publish(store, "d")  # by hand: it is wanted again
    assert set(read_history(store).withdrawn) == {"b", "c"}
    assert back(store) == "a"


def test_a_rollback_to_a_run_withdraws_all_that_came_since(store: Store) -> None:
    for run in RUNS:
        publish(store, run, "relabel")
    with pytest.raises(StoreError, match="The run d was not published before d, or was withdrawn"):
        back(store, "d")
    assert back(store, "b") == "b"
    assert set(read_history(store).withdrawn) == {"c", "d"}
    publish(store, "d")
    with pytest.raises(StoreError, match="go back to one of b, a, or publish it"):
        back(store, "c")


def test_a_store_of_an_earlier_version_is_told_what_to_do(store: Store) -> None:
    with pytest.raises(StoreError, match="has no published run to go back from"):
        back(store)
    store.write_bytes(CURRENT, b"a\n")
    with pytest.raises(StoreError, match=r"no history .* before a, .* `dcsp publish STORE RUN`"):
        back(store)
    publish(store, "b", "relabel")  # the first event tells what was published before it
    assert back(store) == "a"


def test_a_pointer_that_others_moved_is_gone_back_from_and_to(store: Store) -> None:
    publish(store, "a", "relabel")
    store.write_bytes(CURRENT, b"b\n")
    publish(store, "c", "relabel")
    store.write_bytes(CURRENT, b"d\n")
    assert [back(store), back(store), back(store)] == ["c", "b", "a"]


def test_a_run_that_is_gone_is_not_gone_back_to(store: Store) -> None:
    for run in RUNS:
        publish(store, run, "relabel")
    store.remove(run_file("c"))
    with pytest.raises(StoreError, match=r"run c cannot be published: .*; --to b goes to another"):
        back(store)
    assert current_run(store) == "d" and back(store, "b") == "b"


@pytest.mark.parametrize(
    "spoil", [lambda t: [t], lambda t: t | {"more": 1}, lambda t: t | {"kind": "dreamt of"}]
)
def test_an_event_that_cannot_be_read_is_told(store: Store, spoil: Callable[[Any], Any]) -> None:
    publish(store, "a", "relabel")
    name = f"{HISTORY}/{store.list(HISTORY)[0]}"
    tree = store.read_json(name)
    store.write_json(name, spoil(tree))
    with pytest.raises(StoreError, match="is no event that this version of dcsp reads"):
        read_history(store)


def test_events_are_read_in_the_order_of_their_numbers(store: Store) -> None:
    event = Event("held back", "a", "relabel", None)
    store.write_json(f"{HISTORY}/1000000-aa.json", vars(event) | {"run": "last"})
    store.write_json(f"{HISTORY}/999999-ff.json", vars(event) | {"run": "first"})
    add_event(store, event)
    assert [event.run for event in read_history(store).events] == ["first", "last", "a"]
    assert "1000001-" in json.dumps(store.list(HISTORY))


def test_the_time_of_a_publication_is_looked_for_in_the_newest_events(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr("dcsp.run.history.tell", lambda _, value: told.append(value))
    publish(store, "a", "relabel")
    add_event(store, Event("held back", "b", "relabel", "a"))
    tell_published(store)
    assert len(told) == 1
    for number in range(100):
        held = Event("held back", "b", "relabel", "a")
        store.write_json(f"{HISTORY}/{number + 3:06d}-aa.json", vars(held))
    read: list[str] = []
    read_json = Store.read_json
    monkeypatch.setattr(Store, "read_json", lambda s, n: (read.append(n), read_json(s, n))[1])
    tell_published(store)
    assert 0 < len(read) <= 50 and len(told) == 1, "the lease is held meanwhile"


# --- kills ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """What SIGKILL is to a test: nothing cleans up after it."""


class Model:
    """Where the pointer was, told by nobody but the test itself."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.withdrawn: set[str] = set()

    def publish(self, run: str) -> None:
        if self.path[-1:] != [run]:
            self.path.append(run)
            self.withdrawn.discard(run)

    def earlier(self) -> list[str]:
        found: list[str] = []
        for run in reversed(self.path[:-1]):
            if run not in (self.path[-1], *self.withdrawn, *found):
                found.append(run)
        return found

    def back(self) -> None:
        target, gone = self.earlier()[0], set()
        while self.path[-1] != target:
            gone.add(self.path.pop())
        self.withdrawn = (self.withdrawn | gone) - {target}


STEPS = st.lists(
    st.tuples(st.sampled_from([*RUNS, "back", "hold"]), st.sampled_from([None, 0, 1])), max_size=12
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_every_prefix_of_the_writes_leaves_a_truthful_history(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int | None]]
) -> None:
    """Any sequence of publications and rollbacks, each killed at any of its writes, or at none."""
    store, model = store_of(tmp_path_factory.mktemp("s")), Model()
    write = Store.write_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcsp.run.publishing.require_whole", lambda *_: None)
        for what, dies_at in steps:
            written: list[str] = []

            def dying(
                self: Store,
                name: str,
                data: bytes,
                written: list[str] = written,
                dies_at: int | None = dies_at,
            ) -> None:
                if len(written) == dies_at:
                    raise Killed
                written.append(name)
                write(self, name, data)

            before = current_run(store)
            patch.setattr(Store, "write_bytes", dying)
            try:
                if what == "hold":
                    add_event(store, Event("held back", "a", "relabel", before))
                elif what == "back":
                    roll_back(store, None, lambda: None)
                else:
                    publish(store, what, "relabel")
            except Killed:
                assert current_run(store) == before, "the pointer is the last write"
            except StoreError:
                assert what == "back" and not model.earlier()
            else:
                if what == "back":
                    model.back()
                elif what != "hold":
                    model.publish(what)
            patch.setattr(Store, "write_bytes", write)
            check(read_history(store), model)


def check(history: History, model: Model) -> None:
    assert history.current == (model.path[-1] if model.path else None)
    assert set(history.withdrawn) == model.withdrawn
    assert history.earlier == model.earlier()
    done = [
        event
        for place, event in enumerate(history.events)
        if event.moves and place not in history.not_carried_out
    ]
    pointers = [event.before for event in done] + [history.current]
    assert all(event.run == after for event, after in zip(done, pointers[1:], strict=True))


def test_a_history_is_kept_in_a_bucket(s3_server: str) -> None:
    store = Store("s3://labels/history-test")
    for run in ("a", "b"):
        store.write_json(metrics_file(run), {})
        publish(store, run, "relabel")
    found = read_history(store)
    assert [(event.run, event.before) for event in found.events] == [("a", None), ("b", "a")]
    assert (found.current, found.earlier) == ("b", ["a"])
