"""Errors a user can cause, each one sentence long: what was wrong, where, and what to do.

Jobs and the command line print these without a traceback and exit with code 2, or 3 where a run is
held back; every other exception, and :class:`LostClusterError`, is a fault of the software or of
the machines: code 1.
"""

from __future__ import annotations

from dcsp.text import shown


class DcspError(Exception):
    """Base of every error whose cause and cure lie with the user.

    Its message may quote what strangers wrote: it is one line that can be shown and written down.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


class ConfigError(DcspError):
    """A setting is unknown, out of range, or contradicts another one."""


class CorpusError(DcspError):
    """The corpus cannot be read: a missing root, an unreadable tag table, too many rejections."""


class PlaceError(CorpusError):
    """Where the corpus lies cannot be read: an address, credentials or permissions are wrong."""


class StoreError(DcspError):
    """The store is missing, incomplete, or holds something this version cannot read."""


class HeldBackError(DcspError):
    """A run has ended and is not published: it fails a gate, or was withdrawn; exit code 3."""


class WeightsError(DcspError):
    """Weights cannot be found, fetched, verified or loaded into the network that asks for them."""


class TrainingError(DcspError):
    """Training diverged, or its saved state belongs to other settings."""


class ClusterError(DcspError):
    """The cluster cannot run what was asked of it."""


class LostClusterError(ClusterError):
    """The cluster went away under a job: a fault of machines, with exit code 1."""


class ImageError(DcspError):
    """One image cannot be used; ingest turns this into a row of the rejected table.

    Attributes:
        reason: Short machine-readable name of the cause, such as ``"truncated"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return (type(self), (self.reason, str(self)))
