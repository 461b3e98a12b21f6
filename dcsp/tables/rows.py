"""From the rows of a part to a model and back: decoding ahead in threads, batches of like sizes.

A row whose image cannot be used becomes an error row; faults of machines and models are raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from dcsp.errors import ImageError
from dcsp.tables.schemas import ERROR, OK, SKIPPED

Image = np.ndarray
Result = TypeVar("Result")


class RowResults(Generic[Result]):
    """One result, one error text or nothing for every row of a part, in row order."""

    def __init__(self, rows: int) -> None:
        self.values: list[Result | None] = [None] * rows
        self.errors: list[str | None] = [None] * rows

    def statuses(self) -> list[str]:
        """``ok`` where there is a value, ``error`` where there is an error, else ``skipped``."""
        return [
            ERROR if error is not None else SKIPPED if value is None else OK
            for value, error in zip(self.values, self.errors, strict=True)
        ]


def infer_rows(
    rows: pa.Table,
    decode: Callable[[bytes], Image],
    infer: Callable[[list[Image], list[int]], Sequence[Result]],
    *,
    wanted: Sequence[bool] | None = None,
    batch: int = 16,
    threads: int = 1,
) -> RowResults[Result]:
    """Run a model over the images of a part.

    Rows are visited in order of image size, so that a batch holds like shapes; while the model
    works on one batch, the next is decoded.

    Args:
        rows: A part with ``bytes``, ``height`` and ``width`` columns.
        decode: Encoded bytes → array handed to the model; may raise :class:`ImageError`.
        infer: Arrays and their row numbers → one result each.
        wanted: Rows to run; the others get neither a value nor an error. Left out: all.
        batch: Most images in one call of ``infer``.
        threads: Decoding threads.
    """
    results: RowResults[Result] = RowResults(rows.num_rows)
    data = rows["bytes"]
    sizes = list(zip(rows["height"].to_pylist(), rows["width"].to_pylist(), strict=True))
    order = [i for i in range(rows.num_rows) if wanted is None or wanted[i]]
    order.sort(key=lambda i: (sizes[i], i))
    with ThreadPoolExecutor(threads) as pool:

        def submit(index: int) -> Future[Image]:
            return pool.submit(decode, data[index].as_py())

        for indices, futures in _ahead(order, submit, batch):
            ready: list[tuple[int, Image]] = []
            for index, future in zip(indices, futures, strict=True):
                try:
                    ready.append((index, future.result()))
                except ImageError as error:
                    results.errors[index] = f"{error.reason}: {error}"
            if ready:
                numbers, images = [i for i, _ in ready], [image for _, image in ready]
                for index, value in zip(numbers, infer(images, numbers), strict=True):
                    results.values[index] = value
    return results


def _ahead(
    order: Sequence[int], submit: Callable[[int], Future[Image]], batch: int
) -> Iterator[tuple[list[int], list[Future[Image]]]]:
    """Batches of (row numbers, futures), each handed out after the next one was submitted."""
    numbers = iter(order)
    waiting: tuple[list[int], list[Future[Image]]] | None = None
    while True:
        indices = list(islice(numbers, batch))
        following = (indices, [submit(i) for i in indices])
        if waiting:
            yield waiting
        if not indices:
            return
        waiting = following
