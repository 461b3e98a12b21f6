"""Rows of the rejected table, and the share of rejected images that ends an ingest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from dcsp.corpus.sources.base import SourceRow, printable
from dcsp.corpus.sources.fetch import PASSING
from dcsp.errors import CorpusError
from dcsp.tables.erased import ERASED
from dcsp.tables.schemas import REJECTED
from dcsp.telemetry import REJECTIONS, tell
from dcsp.text import shown, without_credentials

TAG_STAGE = "tag"
"""Stage of a rejected-table row that tells of a dropped tag; its image is in the corpus."""
MASK_STAGE = "mask"
"""Stage of a rejected-table row that tells of a bad mask; its image is in the corpus."""
BAD_MASK = "bad_mask"
"""Reason of every row of that stage."""
DUPLICATE = "duplicate_id"
"""Reason of a row whose id another one has."""
CHECK_AFTER = 200
"""Rows seen before the share of rejected ones can stop an ingest early."""

Row = dict[str, Any]


def rejection(row: SourceRow, stage: str, reason: str, message: str) -> Row:
    """What the rejected table says of a listed row."""
    return {
        "image_id": printable(row.image_id),
        "uri": printable(without_credentials(row.uri)),
        "split": printable(row.split),
        "stage": stage,
        "reason": reason,
        "message": shown(message),
    }


def is_of_image(row: Row) -> bool:
    """Whether a row of the rejected table tells of an image that is in the corpus."""
    return row["stage"] in (TAG_STAGE, MASK_STAGE)


def lost_rows(rejected: Iterable[Row]) -> list[Row]:
    """The rows of a rejected table whose images are not in the corpus."""
    return [row for row in rejected if not is_of_image(row)]


def deferred_rows(rejected: Iterable[Row]) -> list[Row]:
    """The rows whose reason may pass: the next ingest asks for their images again."""
    return [row for row in rejected if row["reason"] in PASSING]


def refused_rows(rejected: Iterable[Row]) -> list[Row]:
    """The rows of lost images that stay lost as long as they are listed as they are."""
    lasting = (row for row in lost_rows(rejected) if row["reason"] not in PASSING)
    return [row for row in lasting if row["reason"] != DUPLICATE]


class RejectionCounter:
    """Counts what batches reject, and stops an ingest that rejects too much.

    Args:
        limit: ``max_rejected_share`` of the corpus settings.
        rejected: Rows that the listing itself rejected.
        carried: What was said before of images that need not be read again.
        unchanged: How many these are, the accepted ones included.

    Attributes:
        deferred: Lost images that the next ingest asks for again.
        erased: Lost images that no ingest takes again, and no limit counts.
    """

    def __init__(self, limit: float, rejected: pa.Table, carried: pa.Table, unchanged: int) -> None:
        self._limit = limit
        self._unchanged = unchanged
        self._listed = rejected.num_rows
        self.deferred = self.erased = 0
        self._rejected: list[Row] = []
        self._lost = 0
        self._reasons: Counter[str] = Counter()
        self._example = ""
        self._reject(carried.to_pylist())
        self._carried, self._lost = self._lost, 0
        self._reject(rejected.to_pylist())

    def add(self, record: dict[str, Any]) -> None:
        """Count one batch.

        Raises:
            CorpusError: Too large a share of the rows read so far was rejected.
        """
        self._listed += record["listed"]
        self._reject(record["rejected"])
        for reason, count in Counter(row["reason"] for row in record["rejected"]).items():
            tell(REJECTIONS, count, reason=reason)
        if self._listed >= CHECK_AFTER:  # a host that is down for now says nothing of the source
            self._judge(self._lost - self.deferred, self._listed)

    def check(self) -> None:
        """Compare the share of all rejected rows with the limit.

        Raises:
            CorpusError: It is past the limit; the message names the commonest reasons.
        """
        self._judge(self._lost + self._carried, self._listed + self._unchanged)

    @property
    def lost(self) -> int:
        """Images that are not in the corpus."""
        return self._lost + self._carried + self.erased

    def _judge(self, lost: int, listed: int) -> None:
        if listed and lost / listed > self._limit:
            common = self._reasons.most_common(4)
            told = ", ".join(f"{count} {reason}" for reason, count in common)
            later = (
                f"; the next job asks for {self.deferred} of them again" if self.deferred else ""
            )
            raise CorpusError(
                f"{lost} of {listed} images were rejected ({told}; first: "
                f"{self._example}), more than corpus.max_rejected_share={self._limit:g}: mend the "
                f"source or raise the limit; `dcsp rejected STORE` lists them{later}."
            )

    def _reject(self, rows: Sequence[Row]) -> None:
        """Count rejected rows; a dropped tag or mask is told of and loses no image."""
        self._rejected += rows
        gone = lost_rows(rows)
        lost = [row for row in gone if row["reason"] != ERASED]
        self.erased += len(gone) - len(lost)
        self._lost += len(lost)
        self.deferred += len(deferred_rows(lost))
        self._reasons.update(row["reason"] for row in lost)
        if lost and not self._example:
            self._example = f"{lost[0]['uri']}: {lost[0]['message']}"

    @property
    def rejected(self) -> pa.Table:
        """Every rejected row so far."""
        return pa.Table.from_pylist(self._rejected, REJECTED)
