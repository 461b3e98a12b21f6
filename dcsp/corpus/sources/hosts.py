"""Patience with hosts of images: an outage that passes is waited for, a dead host is left alone.

Without it every image of a host that is down would cost all of its attempts, and be given up.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

FAILURES = 5
"""Attempts in a row that fail before a host rests."""
PATIENCE = 120.0
"""Seconds of an outage that are waited for, as with object stores."""
LONGEST_PAUSE = 16.0
"""Seconds that the pauses within an outage grow to, from 1."""
REST = 60.0
"""Seconds that a host is left alone for after that; then one image tries again."""


@dataclass
class _Host:
    """What is known of a host.

    Attributes:
        is_good: It has sent an image.
        failures: Attempts that failed since one succeeded.
        since: When the first of these failed.
        pauses: How often it was waited for since then.
        until: When it may be asked again.
    """

    is_good: bool = False
    failures: int = 0
    since: float = 0.0
    pauses: int = 0
    until: float = 0.0


class Hosts:
    """Which hosts may be asked now. Counted in each process by itself, for all of its threads.

    A host that never sent an image is not waited for, as tag tables of the web name many that are
    gone; unless none did yet, when it is more likely the network that is down.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._is_any_good = False
        self._since: float | None = None
        self._lock = threading.Lock()

    def wait_for(self, name: str) -> bool:
        """Wait until a host may be asked.

        Returns:
            Whether it may; otherwise it has failed for too long, and is left alone for a while.
        """
        while True:
            with self._lock:
                host = self._hosts.setdefault(name, _Host())
                left = host.until - time.monotonic()
                if left <= 0:
                    return True
                if not self._is_waited_for(host):
                    return False
            time.sleep(left)

    def failed(self, name: str, wait: float) -> bool:
        """An attempt failed.

        Args:
            name: Of the host.
            wait: Seconds that it asks to be left alone for, of which ``REST`` count; else 0.

        Returns:
            Whether the host is waited for now, so that the image need not be given up.
        """
        with self._lock:
            now, host = time.monotonic(), self._hosts.setdefault(name, _Host())
            self._since = now if self._since is None else self._since
            host.failures += 1
            if host.failures == 1:
                host.since = now
            if wait:
                host.until = max(host.until, now + min(wait, REST))
            elif host.failures >= FAILURES and now >= host.until:  # not each of several threads
                host.until = now + min(LONGEST_PAUSE, 2.0**host.pauses)
                host.pauses += 1
                if not self._is_waited_for(host):
                    host.until = now + REST
            return now < host.until and self._is_waited_for(host)

    def succeeded(self, name: str) -> None:
        """It sent an image."""
        with self._lock:
            host = self._hosts.setdefault(name, _Host())
            host.failures = host.pauses = 0
            host.since, host.is_good = time.monotonic(), True
            self._is_any_good = True

    def _is_waited_for(self, host: _Host) -> bool:
        """Whether a pause ends before patience does."""
        if host.is_good:
            return host.until - host.since <= PATIENCE
        return not self._is_any_good and host.until - (self._since or 0.0) <= PATIENCE
