"""One job at a time on a store: every job that writes into it holds its lease meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dcsp.config import RunConfig
from dcsp.progress import say
from dcsp.run.history import tell_published
from dcsp.run.notify import FAILED, Notice, notify
from dcsp.store.lease import Lease
from dcsp.store.store import Store
from dcsp.telemetry import work_on

from ._ending import interrupt, last_words, told_of_errors


@contextmanager
def hold(store: Store, job: str, config: RunConfig) -> Iterator[Lease]:
    """Hold the lease of a store; a job that loses it is interrupted and says why.

    From here on errors that end the job are told to whom its config names.

    Args:
        store: The store.
        job: Name of the job.
        config: Of the job: its name is for the message to others.

    Raises:
        StoreError: Another job holds it, or has taken it after this one was suspended for long.
    """

    def tell(error: str) -> None:
        notice = Notice(FAILED, job, config.name, store.url, reasons=(error,))
        notify(config.notify, notice)

    work_on(config.name)
    wait = config.cluster.lease_wait_minutes * 60
    with Lease(store, job, config.name, on_loss=interrupt, wait=wait, on_wait=say) as lease:
        told_of_errors[:] = [tell]
        tell_published(store)
        last_words.append(lease.__exit__)
        try:
            yield lease
        finally:
            last_words.remove(lease.__exit__)
