"""From the rows of a part to a model and back: decoding ahead in threads, batches of like sizes.

A row whose image cannot be used becomes an error row; faults of machines and models are raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from dcsp.errors import ImageError
from dcsp.stages.stage import Device
from dcsp.tables.schemas import ERROR, OK, SKIPPED

Image = np.ndarray
Result = TypeVar("Result")
_BYTES = pa.large_binary()


class RowResults(Generic[Result]):
    """One result, one error text or nothing for every row of a part, in row order."""

    def __init__(self, rows: int) -> None:
        self.values: list[Result | None] = [None] * rows
        self.errors: list[str | None] = [None] * rows

    def onto(
        self,
        rows: pa.Table,
        name: str = "raw",
        values: Sequence[Any] | None = None,
        type_: pa.DataType = _BYTES,
    ) -> pa.Table:
        """Rows with the results, ``status`` and ``error`` as further columns.

        Args:
            rows: Of the same images in the same order.
            name: Column of the results.
            values: What it holds in their place, row by row.
            type_: Of the column.
        """
        column = pa.array(self.values if values is None else values, type_)
        return (
            rows.append_column(name, column)
            .append_column("status", pa.array(self.statuses(), pa.string()))
            .append_column("error", pa.array(self.errors, pa.string()))
        )

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
    device: Device = Device(),  # noqa: B008  # frozen
) -> RowResults[Result]:
    """Run a model over the images of a part.

    Rows are visited in order of image size, so that a batch holds like shapes; while the model
    works on one batch, the next is decoded.

    Args:
        rows: A part with ``bytes``, ``height`` and ``width`` columns.
        decode: Encoded bytes → array handed to the model; may raise :class:`ImageError`.
        infer: Arrays and their row numbers → one result each; called by several threads where the
            device has several batches in flight.
        wanted: Rows to run; the others get neither a value nor an error. Left out: all.
        batch: Most images in one call of ``infer``.
        device: Says how many threads decode, and how many batches are in flight.
    """
    results: RowResults[Result] = RowResults(rows.num_rows)
    data = rows["bytes"]
    sizes = list(zip(rows["height"].to_pylist(), rows["width"].to_pylist(), strict=True))
    order = [i for i in range(rows.num_rows) if wanted is None or wanted[i]]
    order.sort(key=lambda i: (sizes[i], i))
    with ThreadPoolExecutor(device.decoders) as decoders:

        def submit(index: int) -> Future[Image]:
            return decoders.submit(decode, data[index].as_py())

        def start(images: list[Image], numbers: list[int]) -> Callable[[], Sequence[Result]]:
            if device.in_flight > 1:
                return _model_threads(device.in_flight).submit(infer, images, numbers).result
            values = infer(images, numbers)  # here: torch counts its threads by the caller's
            return lambda: values

        started: deque[tuple[list[int], Callable[[], Sequence[Result]]]] = deque()

        def collect(most: int) -> None:
            while len(started) > most:
                numbers, values = started.popleft()
                for number, value in zip(numbers, values(), strict=True):
                    results.values[number] = value

        for indices, futures in _ahead(order, submit, batch):
            ready = _decoded(indices, futures, results.errors)
            if ready:
                numbers = [number for number, _ in ready]
                started.append((numbers, start([image for _, image in ready], numbers)))
            collect(device.in_flight - 1)
        collect(0)
    return results


@cache
def _model_threads(count: int) -> ThreadPoolExecutor:
    """Threads that outlive a part: cuDNN's plans for a size of image are of the thread."""
    return ThreadPoolExecutor(count, "model")


def _decoded(
    indices: Sequence[int], futures: Sequence[Future[Image]], errors: list[str | None]
) -> list[tuple[int, Image]]:
    """The images of a batch that could be decoded; of the others the errors are noted."""
    ready = []
    for index, future in zip(indices, futures, strict=True):
        try:
            ready.append((index, future.result()))
        except ImageError as error:
            errors[index] = f"{error.reason}: {error}"
    return ready


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
