"""Reading the images of a batch: those that lie far away, several at once and ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from dcsp.corpus.sources.base import Source, SourceRow
from dcsp.corpus.sources.files import is_local
from dcsp.errors import ImageError

THREADS = 8
"""Images of a batch that are fetched at once, where each is a file of its own far away."""
AHEAD = 16
"""Images that are held until their turn comes."""


def read_ahead(source: Source, rows: Sequence[SourceRow]) -> Iterator[bytes | ImageError]:
    """What each row holds, or why there is nothing, in their order.

    Local files are read one by one, and so are rows of a shard, which their source reads together.
    """
    if not any(_is_far(row) for row in rows):
        yield from (_read(source, row) for row in rows)
        return
    pool = ThreadPoolExecutor(THREADS)
    waiting: deque[Future[bytes | ImageError]] = deque()
    try:
        for row in rows:
            waiting.append(pool.submit(_read, source, row))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _is_far(row: SourceRow) -> bool:
    return not row.shard and not is_local(row.uri)


def _read(source: Source, row: SourceRow) -> bytes | ImageError:
    try:
        return source.read(row)
    except ImageError as error:
        return error
