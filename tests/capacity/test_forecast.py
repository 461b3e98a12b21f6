"""Time, bytes and cost of stages, from what they are known to take."""

from __future__ import annotations

import pytest

from dcsp.capacity.forecast import Forecast, Price, check_memory, cluster_line, forecast, table
from dcsp.capacity.pace import Pace
from dcsp.capacity.resources import Node, Resources
from dcsp.capacity.workload import Work
from dcsp.config import ClusterSettings

CPUS = Resources(16, 0, 1)  # 12 actors, 4 tasks beside them
GPUS = Resources(64, 8, 8)
MINING = Work("saliency", "actors", parts=240, parts_left=120, rows_left=12_000, bytes_in=3e9)
TRAINING = Work("fcan", "training", parts=240, parts_left=240, rows_left=5000, steps=500)


def of(work: Work, pace: Pace | None, resources: Resources, **settings: int) -> Forecast:
    paces = {work.title: pace} if pace else {}
    (line,) = forecast([work], paces, resources, ClusterSettings(**settings))
    return line


def test_models_that_are_slow_decide_the_time() -> None:
    line = of(MINING, Pace("probe", 10, 0.8, 0.01, 1000, 2**30), GPUS)
    assert (line.workers, line.cpus, line.gpus) == (8, 1.0, 1.0)
    assert line.seconds == pytest.approx(10 + 12_000 * 0.8 / 8)
    assert line.bytes_out == 12_000 * 1000
    assert line.memory == 8 * 2**30


def test_tasks_that_are_slow_decide_the_time() -> None:
    line = of(MINING, Pace("probe", 0, 0.01, 5.6, 1), GPUS)
    assert line.seconds == pytest.approx(12_000 * 5.6 / 56)


def test_without_gpus_models_and_tasks_share_the_cores() -> None:
    line = of(MINING, Pace("probe", 0, 0.5, 0.4, 1), CPUS)
    assert line.workers == 12
    assert line.seconds == pytest.approx(max(12_000 * 0.9 / 16, 12_000 * 0.4 / 4))
    laptop = of(MINING, Pace("probe", 0, 0.5, 0.4, 1), Resources(4, 0, 1, cores=2))
    assert laptop.seconds == pytest.approx(12_000 * 0.9 / 2)


def test_a_last_round_of_few_parts_takes_as_long_as_a_full_one() -> None:
    nine = Work("saliency", "actors", parts=9, parts_left=9, rows_left=900)
    assert of(nine, Pace("probe", 0, 1, 0, 1), GPUS).seconds == pytest.approx(2 * 100)


def test_a_training_takes_its_steps() -> None:
    line = of(TRAINING, Pace("probe", 5, 0.2, 0.1, 9e6), GPUS)
    assert (line.workers, line.gpus) == (8, 1.0)
    assert line.seconds == pytest.approx(5 + 500 * 0.2)
    assert line.bytes_out == 9e6
    reading = of(TRAINING, Pace("probe", 0, 0.2, 1.0, 9e6), GPUS)
    assert reading.seconds == pytest.approx(500 * 0.5)


def test_a_training_on_cpus_shares_them_with_its_reading() -> None:
    line = of(TRAINING, Pace("probe", 0, 1.0, 8.0, 1), CPUS, train_workers=2)
    assert line.cpus == 7
    assert line.seconds == pytest.approx(500 * max(8.0 / 2, 2 * (7 + 8) / 16))


def test_what_nobody_measured_is_unknown() -> None:
    line = of(MINING, None, GPUS)
    assert line.seconds is line.bytes_out is line.memory is None
    text = table([line], GPUS, Price(cpu=1))
    assert text.splitlines()[1].split()[-1] == "?" and " ? " in text.splitlines()[1]


def test_what_is_done_takes_nothing() -> None:
    done = Work("saliency", "actors", 240, 0, 0)
    line = of(done, Pace("probe", 10, 0.8, 0.01, 1000), GPUS)
    assert (line.workers, line.seconds, line.bytes_out) == (0, 0.0, 0.0)
    assert table([line], GPUS, None).splitlines()[1].split() == ["saliency", "0/240", "done"]


def test_the_whole_cluster_costs_while_a_stage_runs() -> None:
    assert Price(cpu=0.05, gpu=2).of(GPUS, 1800) == pytest.approx(0.5 * (64 * 0.05 + 8 * 2))
    laptop = Resources(4, 0, 1, cores=2)
    assert Price(cpu=0.05).of(laptop, 3600) == pytest.approx(0.1)


def test_the_table_sums_time_and_cost() -> None:
    lines = [of(MINING, Pace("probe", 0, 0.8, 0, 1000), GPUS), of(TRAINING, None, GPUS)]
    last = table(lines, GPUS, Price(gpu=3)).splitlines()[-1]
    assert last.split() == ["together", "20", "min", "+", "8.00", "+"]


def test_the_cluster_is_told_in_one_line() -> None:
    node = Node(8, 1, 16 * 2**30, 2**30)
    resources = Resources(16, 2, 2, (node, node), free_cpus=10, free_gpus=1, free_memory=2**30)
    assert cluster_line(resources) == (
        "cluster: 2 nodes (2 of 8 CPUs and 1 GPU), 16 CPUs (10 free), 2 GPUs (1 free), "
        "32.0 GiB memory (1.0 GiB free), object store of 1.0 GiB a node or more"
    )


def test_memory_is_checked_by_what_the_probe_saw() -> None:
    small = Resources(16, 0, 1, (Node(16, memory=2**30),))
    lines = [of(MINING, Pace("probe", 0, 0.8, 0, 1, 2**29), small)]
    with pytest.raises(Exception, match=r"saliency: 12 .*set cluster\.actors to 2 or less"):
        check_memory(lines, small)
    check_memory([of(MINING, Pace("earlier", 0, 0.8, 0, 1), small)], small)
