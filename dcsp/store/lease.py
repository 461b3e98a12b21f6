"""The lease of a store: one job at a time works on it.

Tables are functions of their fingerprints, so that two jobs never mix rows; but they would compute
everything twice and race for ``CURRENT``. A job writes who it is into the file ``LEASE``, and again
every minute. A lease that was not renewed for minutes has expired; that of a process of this
machine that has ended is worth nothing at once. Commands that only read take no notice of it.

Clocks of machines may differ by up to :data:`SKEW`. A holder that was suspended for longer than its
lease finds another holder's name when it comes back, and stops.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from dcsp.errors import StoreError
from dcsp.store.conditional import read_version, remove_file, write_over
from dcsp.store.store import Store
from dcsp.telemetry import LEASE_EXPIRY, tell
from dcsp.text import duration

LEASE = "LEASE"
"""File of the store that names the job at work."""
SECONDS = 300.0
"""How long a lease is good for after it was renewed last."""
RENEWALS = 5
"""Renewals in that time: several may fail."""
SKEW = 60.0
"""Seconds beyond its end for which a lease is respected: clocks of machines differ."""
ATTEMPTS = 5
"""At a write that others come before."""
WAIT_PAUSE = 5.0
"""Seconds between two looks at a lease that is waited for."""
LAST_WORDS = 10.0
"""Seconds that a renewal under way gets when the job ends."""


@dataclass(frozen=True)
class Holder:
    """Who works on a store.

    Attributes:
        job: Name of the job.
        run: Prefix of its run's id.
        host: Name of the machine.
        pid: Of the job's process there.
        started: When the job took the lease, UTC.
        expires: When it ends unless it is renewed, UTC.
        id: Random; of this holder alone.
        machine: What tells processes of this machine's present boot from all others; empty where
            nothing does.
        born: When the process began, in ticks of that boot: process ids are used again.
    """

    job: str
    run: str
    host: str
    pid: int
    started: str
    expires: str
    id: str
    machine: str = ""
    born: str = ""

    @classmethod
    def here(cls, job: str, run: str, seconds: float) -> Holder:
        """This process, from now on."""
        return cls(
            job=job,
            run=run,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            expires=_after(seconds),
            id=uuid.uuid4().hex,
            machine=_machine(),
            born=_born(os.getpid()),
        )

    @classmethod
    def parse(cls, data: bytes) -> Holder:
        """What :meth:`to_bytes` gave.

        Raises:
            ValueError: It is something else.
        """
        try:
            holder = cls(**json.loads(data))
            holder.seconds_left()
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from error
        for name, value in asdict(holder).items():
            if not isinstance(value, int if name == "pid" else str):
                raise ValueError(f"{name} is {value!r}")
        return holder

    def to_bytes(self) -> bytes:
        """Readable JSON."""
        return f"{json.dumps(asdict(self), indent=2)}\n".encode()

    def renewed(self, seconds: float) -> Holder:
        """The same holder, good for so long from now on."""
        return replace(self, expires=_after(seconds))

    def seconds_left(self) -> float:
        """Until others may take the lease, by this machine's clock."""
        return datetime.fromisoformat(self.expires).timestamp() + SKEW - time.time()

    def is_gone(self) -> bool:
        """Whether its lease has expired, or its process is known to have ended."""
        if self.seconds_left() <= 0:
            return True
        is_known = bool(self.machine) and self.machine == _machine()
        return is_known and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"{self.job} of {self.run} on {self.host}, pid {self.pid}, since {self.started}"


class Lease:
    """The right to work on a store, for as long as the ``with`` block lasts.

    Args:
        store: The store.
        job: Name of the job that wants it.
        run: What it works on, for the message to others.
        seconds: How long it is good for without being renewed.
        on_loss: Called once, in a thread, when another job has taken it.
        wait: Seconds to wait for another job to end, or for its lease to expire.
        on_wait: Told once, in words, whom it waits for.
    """

    def __init__(
        self,
        store: Store,
        job: str,
        run: str,
        seconds: float = SECONDS,
        on_loss: Callable[[], None] = lambda: None,
        wait: float = 0.0,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store, self._seconds, self._on_loss = store, seconds, on_loss
        self._wait, self._on_wait = wait, on_wait
        self._me = Holder.here(job, run, seconds)
        self._good_until = 0.0  # by the wall clock: others go by it, and it runs on in a suspension
        self._taken_by: Holder | None = None
        self._busy = threading.Lock()
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def job(self) -> str:
        """Name of the job that holds it."""
        return self._me.job

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            StoreError: Another job holds it, or the store cannot be written.
        """
        try:
            self._wait_for_it()
            self._renewing.start()
        except (KeyboardInterrupt, SystemExit):  # it may have come after the lease was written
            self.__exit__()
            raise
        return self

    def _wait_for_it(self) -> None:
        end = time.monotonic() + self._wait
        is_told = False
        while (holder := self._take()) is not None:
            if time.monotonic() >= end:
                raise self._occupied(holder)
            if not is_told:
                self._on_wait(f"waiting for another job ({holder})")
                is_told = True
            time.sleep(min(WAIT_PAUSE, self._wait))

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        """Give the lease back.

        Raises:
            StoreError: What interrupts the block is that another job has taken the lease.
        """
        try:
            if kind is KeyboardInterrupt:
                self.check()
        finally:
            self._end()

    def _end(self) -> None:
        self._ended.set()
        if self._renewing.is_alive():
            self._renewing.join(LAST_WORDS)
        try:
            self._give_back()
            tell(LEASE_EXPIRY, 0)
        except StoreError:
            return  # it expires by itself, and must not hide why the job has ended

    def check(self) -> None:
        """Make sure that the lease is still this job's; asks the store only where it may not be.

        Raises:
            StoreError: Another job has taken it.
        """
        if self._taken_by is None and time.time() >= self._good_until:
            self._renew()
        self._require()

    def confirm(self) -> None:
        """Make sure by asking the store, before what must not be done twice.

        Raises:
            StoreError: Another job has taken it, or the store cannot be asked.
        """
        self._renew()
        self._require()

    def _require(self) -> None:
        if self._taken_by is not None:
            raise StoreError(
                f"This job was away for too long and lost the store {self._store.url} to another "
                f"job ({self._taken_by}): what it has done is kept; submit it again when that one "
                "has ended."
            )

    def _take(self) -> Holder | None:
        """Take the lease, or say who holds it."""
        version: str | None = None
        for _ in range(ATTEMPTS):
            if self._write(version):
                return None
            found = read_version(self._store, LEASE)
            version = None
            if found is not None:
                holder = self._parse(found.data)
                if holder.id == self._me.id:  # the answer to our own write was lost
                    self._renew()
                    return None
                if not holder.is_gone():
                    return holder
                version = found.version
        raise StoreError(
            f"Others take and leave the store {self._store.url} all the time: submit again later."
        )

    def _occupied(self, holder: Holder) -> StoreError:
        return StoreError(
            f"Another job ({holder}) works on the store {self._store.url}: wait for it to end, or "
            f"remove {self._store.path(LEASE)} if it is known to be dead; it expires in "
            f"{duration(holder.seconds_left())}."
        )

    def _keep(self) -> None:
        while not self._ended.wait(self._seconds / RENEWALS):
            try:
                self._renew()
            except StoreError:
                continue  # for now the lease is still good; the next one may go well
            if self._taken_by is not None:
                self._on_loss()
                return

    def _renew(self) -> None:
        """Write a later end, if the lease is ours; where somebody has removed it, take it anew."""
        with self._busy:
            for _ in range(ATTEMPTS):
                found = read_version(self._store, LEASE)
                if found is not None:
                    holder = self._parse(found.data)
                    if holder.id != self._me.id:
                        self._taken_by = holder
                        tell(LEASE_EXPIRY, 0)
                        return
                if self._ended.is_set() or self._write(found.version if found else None):
                    return

    def _write(self, version: str | None) -> bool:
        me = self._me.renewed(self._seconds)
        begun = time.time()
        done = write_over(self._store, LEASE, me.to_bytes(), version)
        if done:
            self._good_until = begun + self._seconds
            tell(LEASE_EXPIRY, self._good_until)
        return done

    def _give_back(self) -> None:
        found = read_version(self._store, LEASE)
        if found is None or self._parse(found.data).id != self._me.id:
            return
        try:
            remove_file(self._store, LEASE)
        except StoreError:  # an account that may write and not remove
            write_over(self._store, LEASE, self._me.renewed(-SKEW).to_bytes(), found.version)

    def _parse(self, data: bytes) -> Holder:
        try:
            return Holder.parse(data)
        except ValueError as error:
            raise StoreError(
                f"{self._store.path(LEASE)} is no lease that this version of dcsp reads ({error}): "
                "remove it if no other job works on the store."
            ) from error


def _after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def _machine() -> str:
    """The boot of this machine and the process ids of this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        # Elsewhere there are no containers that share a name.
        return f"{platform.node()} {uuid.getnode():x}" if platform.system() != "Linux" else ""


def _born(pid: int) -> str:
    """When a process of this machine began; empty where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() or not _lives(pid) else "unknown"
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def interrupt() -> None:
    """What Ctrl-C does, for ``on_loss``: it ends every wait of the main thread."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)
