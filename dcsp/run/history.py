"""The history of a store: which run was published when, by what, and which were held back.

An event is a small file of its own, ``history/<number>-<random>.json``, written once and never
again: nothing has to be appended to, and two writers that take one number lose nothing. An event of
a publication is written before ``CURRENT``. Killed in between, the pointer has not moved, which the
next event, or ``CURRENT``, shows: such an event is told as one that was not carried out.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, get_args

from dcsp.errors import StoreError
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.tables.layout import HISTORY, current_run
from dcsp.telemetry import PUBLISHED, tell

_NEWEST = 30
"""Events in which that of the published run is looked for while the lease is held."""

Kind = Literal["published", "rolled back", "held back"]


@dataclass(frozen=True)
class Event:
    """Something that was done about the published run.

    Attributes:
        kind: ``published``; ``rolled back``: published since others were withdrawn; ``held back``:
            not published.
        run: Id of the run that it is about.
        by: Name of the job or command.
        before: Id of the run that was published before, and stayed where this one was held back;
            None where there was none.
        at: When, UTC, such as ``2026-11-22T02:00:05Z``.
        withdrawn: Runs that a rollback went back from: their jobs do not publish them again.
        reasons: Why a run was held back; of one that was published, gates that it failed.
    """

    kind: Kind
    run: str
    by: str
    before: str | None
    at: str = ""
    withdrawn: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether it names another run the published one."""
        return self.kind != "held back"


@dataclass(frozen=True)
class History:
    """All events of a store, in order, and the run that is published now.

    Attributes:
        events: The oldest first; none of what versions without a history did.
        current: Id of the published run; None where there is none.
    """

    events: tuple[Event, ...]
    current: str | None

    @cached_property
    def not_carried_out(self) -> frozenset[int]:
        """Places of events whose job was killed before it moved the pointer."""
        moves = [place for place, event in enumerate(self.events) if event.moves]
        after = [*(self.events[place].before for place in moves[1:]), self.current]
        return frozenset(
            place
            for place, pointer in zip(moves, after, strict=True)
            if pointer == self.events[place].before
        )

    @cached_property
    def _carried_out(self) -> list[Event]:
        return [
            event
            for place, event in enumerate(self.events)
            if event.moves and place not in self.not_carried_out
        ]

    @cached_property
    def withdrawn(self) -> dict[str, Event]:
        """Runs that their jobs do not publish again → the rollback that went back from them."""
        found: dict[str, Event] = {}
        for event in self._carried_out:
            found.pop(event.run, None)
            found.update(dict.fromkeys(event.withdrawn, event))
        return found

    @cached_property
    def _path(self) -> list[str]:
        """Runs that lead to the published one, the last; a rollback takes back what came since."""
        path: list[str] = []
        for event in self._carried_out:
            if event.before is not None and path[-1:] != [event.before]:
                path.append(event.before)  # published without a history
            if event.kind == "rolled back" and event.run in path:
                while path[-1] != event.run:
                    path.pop()
            else:
                path.append(event.run)
        if self.current is not None and path[-1:] != [self.current]:
            path.append(self.current)
        return path

    @property
    def earlier(self) -> list[str]:
        """Runs that a rollback may go back to, the nearest first; none that was withdrawn."""
        path = reversed(self._path[:-1])
        gone = {*self.withdrawn, self.current}
        return [run for run in dict.fromkeys(path) if run not in gone]

    def passed(self, target: str) -> tuple[str, ...]:
        """Runs that a rollback to one of :attr:`earlier` goes back from, the last one first."""
        since = reversed(self._path[len(self._path) - self._path[::-1].index(target) :])
        return tuple(dict.fromkeys(since))


def read_history(store: Store) -> History:
    """The events of a store.

    Raises:
        StoreError: One cannot be read, or the store cannot be listed.
    """
    names = [name for name in store.list(HISTORY) if name.endswith(".json")]
    with read_ahead(lambda name: _read(store, name), sorted(names, key=_number)) as events:
        return History(tuple(events), current_run(store))


def tell_published(store: Store) -> None:
    """Tell operators when the published run was published; never raises.

    Nothing is told where none of the newest events says so.
    """
    with suppress(StoreError, ValueError):
        current = current_run(store)
        for name in sorted(store.list(HISTORY), key=_number, reverse=True)[:_NEWEST]:
            event = _read(store, name)
            if event.moves and event.run == current:
                tell(PUBLISHED, datetime.fromisoformat(event.at).timestamp())
                return


def add_event(store: Store, event: Event) -> None:
    """Write an event after all others; the caller holds the store's lease.

    Raises:
        StoreError: The store cannot be written.
    """
    number = 1 + max(map(_number, store.list(HISTORY)), default=0)
    told = asdict(event) | {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    store.write_json(f"{HISTORY}/{number:06d}-{uuid.uuid4().hex[:8]}.json", told)


def _number(name: str) -> int:
    digits = name.partition("-")[0]
    return int(digits) if digits.isdecimal() else 0


def _read(store: Store, name: str) -> Event:
    file = f"{HISTORY}/{name}"
    tree = store.read_json(file)
    try:
        event = Event(**{key: _frozen(value) for key, value in tree.items()})
        is_known = event.kind in get_args(Kind)
    except (AttributeError, TypeError):
        is_known = False
    if not is_known:
        raise StoreError(
            f"{store.path(file)} is no event that this version of dcsp reads: use the version that "
            "wrote it, or remove it."
        )
    return event


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
