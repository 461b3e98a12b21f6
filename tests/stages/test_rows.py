"""Rows to images to a model and back: in order, in batches of like sizes, bad images as errors."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.errors import ImageError, WeightsError
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device


def part(sizes: list[tuple[int, int]], bad: tuple[int, ...] = ()) -> pa.Table:
    """A part whose bytes are row numbers, ``bad:`` before those that do not decode."""
    data = [f"{'bad:' if i in bad else ''}{i}".encode() for i in range(len(sizes))]
    return pa.table(
        {
            "height": pa.array([height for height, _ in sizes], pa.int32()),
            "width": pa.array([width for _, width in sizes], pa.int32()),
            "bytes": pa.array(data, pa.large_binary()),
        }
    )


def decode(data: bytes) -> np.ndarray:
    if data.startswith(b"bad:"):
        raise ImageError("truncated", "the file ends too early")
    return np.array(int(data))


def infer(images: list[np.ndarray], numbers: list[int]) -> list[str]:
    assert [int(image) for image in images] == numbers
    return [f"result {number}" for number in numbers]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=12),
    bad=st.sets(st.integers(0, 11)),
    unwanted=st.sets(st.integers(0, 11)),
    batch=st.integers(1, 5),
    device=st.sampled_from([Device(), Device("cuda:0")]),
)
def test_every_row_has_its_own_result_error_or_nothing(
    sizes: list[tuple[int, int]], bad: set[int], unwanted: set[int], batch: int, device: Device
) -> None:
    wanted = [i not in unwanted for i in range(len(sizes))]
    rows = part(sizes, tuple(bad))
    results = infer_rows(rows, decode, infer, wanted=wanted, batch=batch, device=device)
    for i in range(len(sizes)):
        expected = "skipped" if i in unwanted else "error" if i in bad else "ok"
        assert results.statuses()[i] == expected
        assert results.values[i] == (f"result {i}" if expected == "ok" else None)
        fault = "truncated: the file ends too early" if expected == "error" else None
        assert results.errors[i] == fault


@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=20),
    batch=st.integers(1, 6),
)
def test_batches_are_full_and_of_like_sizes(sizes: list[tuple[int, int]], batch: int) -> None:
    seen: list[list[int]] = []

    def record(images: list[np.ndarray], numbers: list[int]) -> list[str]:
        seen.append(numbers)
        return infer(images, numbers)

    infer_rows(part(sizes), decode, record, batch=batch)
    order = [number for numbers in seen for number in numbers]
    assert order == sorted(range(len(sizes)), key=lambda i: (sizes[i], i))
    assert [len(numbers) for numbers in seen[:-1]] == [batch] * (len(seen) - 1)


def test_a_batch_without_a_good_image_is_not_shown_to_the_model() -> None:
    def never(images: list[np.ndarray], numbers: list[int]) -> list[str]:
        raise AssertionError("the model was asked")

    results = infer_rows(part([(2, 2)] * 3, bad=(0, 1, 2)), decode, never)
    assert results.statuses() == ["error"] * 3


@pytest.mark.parametrize("device", [Device(), Device("cuda")])
@pytest.mark.parametrize("fault", [MemoryError(), WeightsError("no such file"), ValueError("bug")])
def test_faults_of_machines_and_models_are_no_rows(fault: Exception, device: Device) -> None:
    def fail(*_: object) -> list[str]:
        raise fault

    with pytest.raises(type(fault)):
        infer_rows(part([(2, 2)] * 5), decode, fail, batch=2, device=device)
    with pytest.raises(type(fault)):
        infer_rows(part([(2, 2)] * 5), fail, infer, batch=2)  # type: ignore[arg-type]


def test_a_model_that_loses_results_is_stopped() -> None:
    with pytest.raises(ValueError, match="zip"):
        infer_rows(part([(2, 2)] * 3), decode, lambda images, numbers: numbers[1:])


def test_the_next_batch_is_decoded_while_the_model_works() -> None:
    decoded: set[int] = set()
    ahead: list[set[int]] = []

    def slow_decode(data: bytes) -> np.ndarray:
        decoded.add(int(data))
        return decode(data)

    def slow_infer(images: list[np.ndarray], numbers: list[int]) -> list[str]:
        following = {number + 2 for number in numbers} & set(range(6))
        deadline = time.monotonic() + 5
        while not following <= decoded and time.monotonic() < deadline:
            time.sleep(0.001)
        ahead.append(following & decoded)
        return infer(images, numbers)

    infer_rows(part([(2, 2)] * 6), slow_decode, slow_infer, batch=2)
    assert ahead == [{2, 3}, {4, 5}, set()]


def test_images_are_decoded_in_as_many_threads_as_asked_for() -> None:
    together = threading.Barrier(3, timeout=10)

    def meet(data: bytes) -> np.ndarray:
        together.wait()
        return decode(data)

    results = infer_rows(part([(2, 2)] * 3), meet, infer, device=Device(threads=3))
    assert results.statuses() == ["ok"] * 3


def test_a_gpu_is_given_a_batch_while_the_one_before_is_under_way() -> None:
    together = threading.Barrier(2, timeout=10)

    def meet(images: list[np.ndarray], numbers: list[int]) -> list[str]:
        together.wait()
        return infer(images, numbers)

    results = infer_rows(part([(2, 2)] * 8), decode, meet, batch=2, device=Device("cuda"))
    assert results.values == [f"result {number}" for number in range(8)]


def test_threads_of_a_gpus_model_outlive_a_part() -> None:
    seen: list[set[int]] = []

    def note(images: list[np.ndarray], numbers: list[int]) -> list[str]:
        seen[-1].add(threading.get_ident())
        return infer(images, numbers)

    for _ in range(3):
        seen.append(set())
        infer_rows(part([(2, 2)] * 8), decode, note, batch=2, device=Device("cuda"))
    assert len(set.union(*seen)) <= Device("cuda").in_flight
